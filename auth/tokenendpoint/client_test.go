package tokenendpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
)

func clientOf(t *testing.T, method AuthMethod, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &Client{
		HTTP: NewHTTPClient(0), Protocols: &Protocols{}, TokenURL: server.URL, ClientID: "the client", ClientSecret: "a+b %/ü", AuthMethod: method, Now: time.Now,
	}
}

var refresh = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"the-refresh-token"}}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	for method, want := range map[AuthMethod][4]string{ // Basic user and password; client_id and client_secret of the form
		ClientSecretBasic: {"the+client", "a%2Bb+%25%2F%C3%BC", "", ""},
		ClientSecretPost:  {"", "", "the client", "a+b %/ü"},
		NoAuthentication:  {"", "", "the client", ""},
	} {
		client := clientOf(t, method, func(w http.ResponseWriter, r *http.Request) {
			id, secret, _ := r.BasicAuth()
			if got := [4]string{id, secret, r.PostFormValue("client_id"), r.PostFormValue("client_secret")}; got != want {
				t.Errorf("%s: %q, want %q", method, got, want)
			}
			if r.URL.RawQuery != "" || r.PostFormValue("refresh_token") != "the-refresh-token" {
				t.Errorf("%s: query %q, form %v", method, r.URL.RawQuery, r.PostForm)
			}
			fmt.Fprint(w, `{"access_token":"a"}`)
		})
		if _, err := client.Exchange(t.Context(), refresh); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	if len(refresh) != 2 {
		t.Error("the caller's form was changed")
	}
}

func TestADrippingAnswerEndsWithTheDeadline(t *testing.T) {
	t.Parallel()
	client := clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, r *http.Request) {
		for _, c := range []byte(`{"access_token":"` + strings.Repeat("a", 1000)) {
			_, _ = w.Write([]byte{c})
			w.(http.Flusher).Flush()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.Exchange(ctx, refresh)
	var refusal *auth.ProviderError
	if !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryUnknown {
		t.Errorf("%v", err)
	}
}

// What no database takes would keep the refresh token that it came with from being stored.
func TestAScopeThatCannotBeStored(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"access_token":"a","refresh_token":"r","scope":"openid\u0000 x"}`:        "openid x",
		`{"access_token":"a","refresh_token":"r","scope":["\u0000 openid","x\t"]}`: "openid x",
		`{"access_token":"a","refresh_token":"r","scope":"\u0000"}`:                "",
		"access_token=a&refresh_token=r&scope=%00openid%ff+%C3%BC":                 "openid ü",
	} {
		client := clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		answer, err := client.Exchange(t.Context(), refresh)
		if err != nil || answer.Refresh != "r" || answer.Scope != want {
			t.Errorf("%s: %q, %v", body, answer.Scope, err)
		}
	}
}

// A connection over which nothing readable came may be a dying one.
func TestAfterAnUnreadableAnswerComesAFreshConnection(t *testing.T) {
	t.Parallel()
	var from []string
	client := clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, r *http.Request) {
		from = append(from, r.RemoteAddr)
		if len(from) == 2 {
			fmt.Fprint(w, `{"access_token":"a"}`)
		}
	})
	for range 3 {
		_, _ = client.Exchange(t.Context(), refresh)
	}
	if len(from) != 3 || from[0] == from[1] || from[1] != from[2] {
		t.Errorf("asked from %v", from)
	}
}

func TestCompressedAnswers(t *testing.T) {
	t.Parallel()
	exchange := func(plain io.Reader, cut int) (auth.Answer, error) {
		body := packed(t, plain)
		return clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, r *http.Request) {
			if asked := r.Header.Get("Accept-Encoding"); asked != "identity" {
				t.Errorf("asked for %q", asked)
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(body[:len(body)-cut])
		}).Exchange(t.Context(), refresh)
	}
	const tokens = `{"access_token":"a","refresh_token":"r","expires_in":60}`
	if answer, err := exchange(strings.NewReader(tokens), 0); err != nil || answer.Access != "a" || answer.Refresh != "r" {
		t.Errorf("%v, %v", answer, err)
	}
	for what, c := range map[string]struct {
		plain io.Reader
		cut   int
		code  string
	}{
		"a bomb":              {io.LimitReader(zeros{}, 64<<20), 0, auth.CodeUnreadable},
		"one that is cut off": {strings.NewReader(tokens), 55, auth.CodeCutOff},
	} {
		_, err := exchange(c.plain, c.cut)
		var refusal *auth.ProviderError
		if !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryUnknown || refusal.Failure.Code != c.code {
			t.Errorf("%s: %v", what, err)
		}
	}
	mislabelled := clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		fmt.Fprint(w, tokens)
	})
	if answer, err := mislabelled.Exchange(t.Context(), refresh); err != nil || answer.Refresh != "r" {
		t.Errorf("plain, and called compressed: %v, %v", answer, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	client := clientOf(t, ClientSecretPost, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":"invalid_grant","error_description":"no: %s\n\u001b[31m %s %s"}`,
			r.PostFormValue("refresh_token"), r.PostFormValue("client_secret"), strings.Repeat("x", 500))
	})
	_, err := client.Exchange(t.Context(), refresh)
	if text := fmt.Sprint(err); strings.Contains(text, "the-refresh-token") || strings.Contains(text, "a+b") || strings.ContainsAny(text, "\n\x1b") || len(text) > 300 {
		t.Errorf("%q", text)
	}
	for _, method := range []AuthMethod{ClientSecretBasic, ClientSecretPost, PrivateKeyJWT} {
		var sent []string
		client = clientOf(t, method, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			form, _ := url.ParseQuery(string(body))
			for _, one := range []string{credentials, form.Get("client_assertion"), "secret%3D%2F", "secret=/", "%2Btoken"} {
				if one != "" {
					sent = append(sent, one[:min(20, len(one))])
				}
			}
			w.WriteHeader(http.StatusBadRequest)
			said, _ := json.Marshal(map[string]string{"error": "server_error", "error_description": credentials + form.Get("client_assertion") + " " + string(body)})
			_, _ = w.Write(said)
		})
		client.ClientSecret, client.Key = "secret=/", clientKey(t)
		_, err := client.Exchange(t.Context(), url.Values{"refresh_token": {"the+token"}})
		for _, part := range sent {
			if text := fmt.Sprint(err); strings.Contains(text, part) || !strings.Contains(text, "[redacted]") {
				t.Errorf("%s: %q is in %q", method, part, text)
			}
		}
	}
	unreachable := &Client{HTTP: NewHTTPClient(0), Protocols: &Protocols{}, TokenURL: "http://127.0.0.1:1/token?secret=x", AuthMethod: NoAuthentication, Now: time.Now}
	_, err = unreachable.Exchange(t.Context(), refresh)
	var refusal *auth.ProviderError
	if !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryNotSent || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

// Secrets are longer than what is kept of a provider's words.
func TestNoPartOfALongSecretIsInAnError(t *testing.T) {
	t.Parallel()
	part := "0123456789abcdef"
	sent, fresh := "sent-"+strings.Repeat(part, 20), "fresh-"+strings.Repeat(part, 20)
	for name, body := range map[string]string{
		"the code":               `{"error":"` + sent + `"}`,
		"the code, at its end":   `{"error":"` + strings.Repeat("x", 100) + sent + `"}`,
		"the description":        `{"error":"invalid_grant","error_description":"` + sent + `"}`,
		"the type":               `{"access_token":"a","token_type":"` + sent + `"}`,
		"the new one, in a code": `{"error":"` + fresh + `","refresh_token":"` + fresh + `"}`,
	} {
		client := clientOf(t, NoAuthentication, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		if _, err := client.Exchange(t.Context(), url.Values{"refresh_token": {sent}}); err == nil || strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	client := clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("token") != "the-refresh-token" || r.PostFormValue("token_type_hint") != "refresh_token" {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	if err := client.Revoke(t.Context(), client.TokenURL, "the-refresh-token", "refresh_token"); err != nil {
		t.Error(err)
	}
	if err := client.Revoke(t.Context(), client.TokenURL, "other", "refresh_token"); err == nil {
		t.Error("a refusal is no error")
	}
}

func TestARefusedRevocationIsToldInTheProvidersWords(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		`400 {"error":"invalid_client","error_description":"no the-refresh-token"}`: "invalid_client: no [redacted]",
		`400 {"error":{"code":"unsupported_token_type"}}`:                           "unsupported_token_type",
		`400 {"error":"invalid_token"}`:                                             "", // section 2.2: it is revoked
		`401 {"error":"invalid_token"}`:                                             "invalid_token",
		`400 {"error":" "}`:                                                         `revocation_refused: status 400: {"error":" "}`,
		`400 <a href="?error=invalid_client">`:                                      `revocation_refused: status 400: <a href="?error=invalid_client">`,
		`503 error=invalid_client`:                                                  "revocation_refused: status 503: error=invalid_client",
		`503 `:                                                                      "revocation_refused: status 503",
	} {
		client := clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, _ *http.Request) {
			status, body, _ := strings.Cut(answer, " ")
			code, _ := strconv.Atoi(status)
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		})
		said := ""
		err := client.Revoke(t.Context(), client.TokenURL, "the-refresh-token", "refresh_token")
		if refusal := new(auth.ProviderError); errors.As(err, &refusal) {
			said = refusal.Error()
		}
		if said != want {
			t.Errorf("%s: %q, want %q", answer, said, want)
		}
	}
}

// An error that repeats a request_uri has pushed nothing.
func TestOnlyASuccessPushesARequest(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]string{
		http.StatusOK: "", http.StatusCreated: "", http.StatusFound: "invalid_request", http.StatusBadRequest: "invalid_request",
		http.StatusInternalServerError: "invalid_request",
	} {
		client := clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, `{"request_uri":"urn:x","error":"invalid_request"}`)
		})
		uri, err := client.Push(t.Context(), client.TokenURL, url.Values{"scope": {"openid"}})
		var refusal *auth.ProviderError
		if code == "" && (err != nil || uri != "urn:x") || code != "" && (!errors.As(err, &refusal) || refusal.Failure.Code != code || uri != "") {
			t.Errorf("%d: %q, %v", status, uri, err)
		}
	}
}

func TestMembersAreExact(t *testing.T) {
	t.Parallel()
	answer, err := read(&response{status: 200, body: []byte(`{"Access_Token":"no","access_token":"yes","REFRESH_TOKEN":"no","refresh_expires_in":0,"x":{"access_token":"no"}}`)}, time.Now())
	if err != nil || answer.Access != "yes" || answer.Refresh != "" || !answer.RefreshNeverExpires {
		t.Errorf("%v, %v", answer, err)
	}
	answer, err = read(&response{status: 200, body: []byte(`{"access_token":"a","refresh_token":12345678901234567890}`)}, time.Now())
	if err != nil || answer.Refresh.Reveal() != "12345678901234567890" {
		t.Errorf("a refresh token without quotes: %v, %v", answer.Refresh.Reveal(), err)
	}
	answer, err = read(&response{status: 200, body: []byte(`{"access_token":"a","refresh_token":0}`)}, time.Now())
	if err != nil || answer.Refresh != "" {
		t.Errorf("a zero for no refresh token: %v, %v", answer.Refresh.Reveal(), err)
	}
	answer, err = read(&response{status: 200, body: []byte(`{"access_token":"a","refresh_token":" r \n","error_code":"0"}`)}, time.Now())
	if err != nil || answer.Refresh.Reveal() != " r " {
		t.Errorf("a refresh token with spaces, and an error that is none: %q, %v", answer.Refresh.Reveal(), err)
	}
	for body, want := range map[string]time.Duration{
		`{"access_token":"a","refresh_token_expires_in":15811200}`:  183 * 24 * time.Hour,
		`{"access_token":"a","refresh_expires_in":"1800"}`:          30 * time.Minute,
		`{"access_token":"a","x_refresh_token_expires_in":8726400}`: 101 * 24 * time.Hour,
	} {
		if answer, err := read(&response{status: 200, body: []byte(body)}, time.Now()); err != nil || answer.RefreshLifetime != want {
			t.Errorf("%s: %v, %v", body, answer.RefreshLifetime, err)
		}
	}
}

// Whatever a token endpoint says: no panic, and nothing that is neither tokens nor a short refusal.
func FuzzTokenAnswer(f *testing.F) {
	for _, seed := range []string{`{"access_token":"a","expires_in":1e400}`, "access_token=a&expires_in=1", "\uFEFF{", "<html>", `{"error":{}}`, "[[[[",
		`{"access_token":"a","access_token":"b","refresh_token":null,"token_type":"N_A"}`, `{"error":"\u202e\u0000x","refresh_token":"r"}`, "error=%zz&error=a",
	} {
		f.Add(200, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		answer, err := read(&response{status: status, header: http.Header{}, body: body}, time.Now())
		if err == nil && answer.Access == "" {
			t.Error("tokens without an access token")
		}
		var refusal *auth.ProviderError
		if errors.As(err, &refusal) {
			new(response).redact(refusal)
		}
		if err != nil && (refusal == nil || len([]rune(err.Error())) > 3*maxDetail+10) {
			t.Errorf("%d bytes of error: %.300v", len(err.Error()), err)
		}
		if answer.Lifetime < 0 || answer.RefreshLifetime < 0 {
			t.Error("a negative lifetime")
		}
	})
}
