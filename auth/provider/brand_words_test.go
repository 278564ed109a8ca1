package provider

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/markbates/goth"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// What brands say in words and numbers of their own has the consequences that RFC 6749's have.
func TestBrandsSayItInTheirOwnWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, says, code string }{
		{"hubspot", `{"status":"BAD_CLIENT_SECRET","message":"missing or invalid client secret"}`, "invalid_client"},
		{"hubspot", `{"status":"BAD_CLIENT_ID","message":"missing or unknown client id"}`, "invalid_client"},
		{"lark", `{"code":20026,"msg":"refresh token invalid"}`, "invalid_grant"},
		{"lark", `{"code":20027,"msg":"something else"}`, "code_20027"},
		{"reddit", `{"message":"Bad Request","error":400}`, "invalid_request"},
		{"reddit", `{"message":"Unauthorized","error":401}`, "invalid_client"},
		{"strava", `{"message":"Bad Request","errors":[{"resource":"Application","field":"client_secret","code":"invalid"}]}`, "invalid_client"},
		{"strava", `{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}`, "invalid_grant"},
		{"twitch", `{"status":403,"message":"invalid client secret"}`, "invalid_client"},
		{"twitch", `{"status":400,"message":"invalid client"}`, "invalid_client"},
		{"wechat", `{"errcode":42007,"errmsg":"the password was changed"}`, "invalid_grant"},
		{"wechat", `{"errcode":40125,"errmsg":"invalid appsecret"}`, "invalid_client"},
	} {
		members := map[string]any{}
		decoder := json.NewDecoder(strings.NewReader(c.says))
		decoder.UseNumber()
		if err := decoder.Decode(&members); err != nil {
			t.Fatal(err)
		}
		brands()[c.kind].dialect.answer(members)
		if members["error"] != c.code {
			t.Errorf("%s: %s is %v, want %s", c.kind, c.says, members["error"], c.code)
		}
	}
}

type answering func(*http.Request) (*http.Response, error)

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

// An application that Lark does not know is the operator's matter, and nothing that cannot be reached.
func TestLarkRefusesTheApplication(t *testing.T) {
	t.Parallel()
	called := 0
	refusal := atLark(t, func(*http.Request) (*http.Response, error) {
		called++
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"code":10014,"msg":"app secret invalid"}`))}, nil
	})
	if refusal.Failure.Code != "invalid_client" || refusal.Delivery != auth.DeliveryAnswered || called != 1 {
		t.Errorf("%v after %d calls", refusal, called)
	}
}

// atLark is how a renewal fails at a Lark that answers so.
func atLark(t *testing.T, answer answering) *auth.ProviderError {
	t.Helper()
	client := &tokenendpoint.Client{
		HTTP: &http.Client{Transport: &translator{dialect: larkDialect(), next: answer}}, Protocols: &tokenendpoint.Protocols{},
		TokenURL: "https://open.feishu.cn/token", ClientID: "cli", ClientSecret: "secret", AuthMethod: tokenendpoint.ClientSecretPost, Now: time.Now,
	}
	_, err := client.Exchange(t.Context(), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"rt"}})
	refusal, ok := err.(*auth.ProviderError) //nolint:errorlint // it is to be one itself
	if !ok {
		t.Fatalf("%v", err)
	}
	return refusal
}

// Whatever becomes of the call for the application, the refresh token has not been sent.
func TestLarkSeesNoRefreshTokenInTheFirstCall(t *testing.T) {
	t.Parallel()
	refusal := atLark(t, func(r *http.Request) (*http.Response, error) {
		if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
			trace.WroteHeaders()
		}
		return nil, errors.New("broken off")
	})
	if refusal.Delivery != auth.DeliveryNotSent {
		t.Errorf("%v", refusal)
	}
}

// A page shows pictures, and loads them from where they are.
func TestPicturesAreFromEncryptedAddresses(t *testing.T) {
	t.Parallel()
	const good = "https://cdn.example/alice.png"
	for _, address := range []string{good, "http://cdn.example/alice.png", "javascript:alert(1)", "data:image/png;base64,AAAA", "//cdn.example/a", "a.png"} {
		done, err := (&brand{}).signedIn(goth.User{UserID: "1", AvatarURL: address}, auth.Answer{})
		if err != nil || done.Identity.Picture != "" && address != good || done.Identity.Picture == "" && address == good {
			t.Errorf("%s: %q, %v", address, done.Identity.Picture, err)
		}
	}
}

// A person whom no database stores would be told that the database is at fault.
func TestNobodyIsCalledWhatCannotBeStored(t *testing.T) {
	t.Parallel()
	for id, good := range map[string]bool{"t2": true, strings.Repeat("x", 255): true, "t2\x00": false, "t2\xff": false, strings.Repeat("x", 256): false} {
		_, err := (&brand{}).signedIn(goth.User{UserID: id}, auth.Answer{})
		if refusal := new(SignInError); (err == nil) != good || !good && (!errors.As(err, &refusal) || refusal.Code != "no_subject") {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// What a brand says is understood however it comes: compressed unasked, or behind a byte order mark.
func TestBrandsAnswersAreReadAsTheyAreMeant(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = io.WriteString(zip, "\uFEFF"+`{"status":"BAD_REFRESH_TOKEN"}`)
	_ = zip.Close()
	hubspot := &translator{dialect: brands()["hubspot"].dialect, next: answering(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 400, Body: io.NopCloser(&packed)}, nil
	})}
	client := &tokenendpoint.Client{
		HTTP: &http.Client{Transport: hubspot}, Protocols: &tokenendpoint.Protocols{}, TokenURL: "https://api.hubapi.com/token", Now: time.Now,
	}
	_, err := client.Exchange(t.Context(), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"rt"}})
	if refusal := new(auth.ProviderError); !errors.As(err, &refusal) || refusal.Failure.Code != "invalid_grant" {
		t.Errorf("%v", err)
	}
}

// kept counts how often the connections of a transport are given up.
type kept struct {
	answering
	givenUp int
}

func (k *kept) CloseIdleConnections() { k.givenUp++ }

// Whatever kept an answer from coming whole, the second try does not go over the same connection.
func TestAfterAnAnswerThatNobodyCanReadABrandGetsAFreshConnection(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"discord", "google"} { // which has metadata
		network := &kept{answering: func(r *http.Request) (*http.Response, error) {
			says := "no answer"
			if r.Method == http.MethodGet {
				root := "https://" + r.URL.Host
				says = `{"issuer":"` + root + `","authorization_endpoint":"` + root + `/a","token_endpoint":"` + root + `/t","jwks_uri":"` + root + `/k"}`
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(says)), Request: r}, nil
		}}
		set, err := New([]Config{{
			Name: "x", Type: kind, ClientID: "cli", ClientSecret: "secret", CallbackURL: "https://rp.example/auth/x/callback",
			Scopes: []string{"openid"},
		}}, Options{RenewTimeout: 15 * time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler), Transport: network})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := set.Get("x")
		_, err = p.Renew(t.Context(), auth.TokenSet{Refresh: "rt"}, true)
		var failed *auth.ProviderError
		if !errors.As(err, &failed) || failed.Delivery != auth.DeliveryUnknown || network.givenUp != 1 {
			t.Errorf("%s: %v, connections given up %d times", kind, err, network.givenUp)
		}
	}
}
