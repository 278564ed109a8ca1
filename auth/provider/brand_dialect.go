package provider

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"keyturn/auth/tokenendpoint"
)

// dialect is how a brand's token endpoint differs from RFC 6749. Both halves may be nil.
type dialect struct {
	// request turns the form of a token request into what the endpoint takes. send makes a call that must come first.
	request func(r *http.Request, form url.Values, send http.RoundTripper) (*http.Request, error)
	// answer rewrites the members of a JSON answer, in place, to those of RFC 6749 sections 5.1 and 5.2.
	answer func(members map[string]any)
}

// translator speaks a dialect on behalf of a token endpoint client. It is safe for concurrent use if note is.
type translator struct {
	dialect
	next http.RoundTripper
	note func(members map[string]any) // sees each answer; goth's sessions want some of it. May be nil
}

// RoundTrip implements http.RoundTripper.
func (t *translator) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost { // userinfo, of an OpenID provider
		return t.next.RoundTrip(r)
	}
	if t.request != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, err
		}
		asked := r
		r, err = t.request(r.Clone(r.Context()), form, t.next)
		if refused := refusedClient(0); errors.As(err, &refused) {
			return invalidClientAnswer(asked, refused)
		}
		if err != nil {
			return nil, err
		}
	}
	response, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, cut := io.ReadAll(io.LimitReader(tokenendpoint.Plain(io.LimitReader(response.Body, maxDocument+1)), maxDocument+1))
	rest := response.Body
	if members := t.members(body); cut == nil && members != nil {
		if body, err = json.Marshal(members); err != nil {
			return nil, err
		}
	}
	response.ContentLength = -1
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), broken{cut}), rest}
	return response, nil
}

// CloseIdleConnections is what http.Client.CloseIdleConnections looks for.
func (t *translator) CloseIdleConnections() { (&http.Client{Transport: t.next}).CloseIdleConnections() }

// invalidClientAnswer is what a token endpoint of RFC 6749 would have answered.
func invalidClientAnswer(r *http.Request, refused refusedClient) (*http.Response, error) {
	body, err := json.Marshal(map[string]string{"error": invalidClient, "error_description": refused.Error()})
	return &http.Response{
		StatusCode: http.StatusUnauthorized, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}, err
}

// members are those of an answer, as RFC 6749 has them, or nil of what is not JSON.
func (t *translator) members(body []byte) map[string]any {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if decoder.Decode(&members) != nil || members == nil {
		form, err := url.ParseQuery(string(body))
		if t.note == nil || err != nil {
			return nil
		}
		noted := map[string]any{}
		for name := range form {
			noted[name] = form.Get(name)
		}
		t.note(noted)
		return nil
	}
	if t.answer != nil {
		t.answer(members)
	}
	plainError(members)
	if t.note != nil {
		t.note(members)
	}
	return members
}

// broken is the end of a body that was cut off, or of a whole one.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	return 0, io.EOF
}

// plainError makes the error objects of Facebook and its like an error code with a description.
func plainError(members map[string]any) {
	object, ok := members["error"].(map[string]any)
	if !ok {
		return
	}
	members["error"] = cmp.Or(textOf(object, "type"), "error")
	members["error_description"] = textOf(object, "message")
}

// lift puts the members of an object among those of the answer that holds it.
func lift(members map[string]any, name string) {
	object, ok := members[name].(map[string]any)
	if !ok {
		return
	}
	for member, value := range object {
		if _, taken := members[member]; !taken {
			members[member] = value
		}
	}
}

// What a brand's words or numbers stand for (RFC 6749 section 5.2)
const (
	invalidGrant   = "invalid_grant"   // the refresh token has ended
	invalidClient  = "invalid_client"  // it is not the client that it says it is
	invalidRequest = "invalid_request" // one of several things, the end of the refresh token among them
)

// numbered makes a numbered error one of RFC 6749, where it is known what the number stands for.
func numbered(members map[string]any, code, message string, stands map[string]string) {
	number := fmt.Sprint(members[code])
	if members[code] == nil || number == "0" {
		return
	}
	members["error"] = cmp.Or(stands[number], code+"_"+number)
	members["error_description"] = number + " " + textOf(members, message)
}

// worded makes an error one of RFC 6749, where the brand says it in words of its own in the given member.
func worded(member string, stands map[string]string) dialect {
	return dialect{answer: func(members map[string]any) {
		text := textOf(members, member)
		if code := stands[text]; code != "" {
			members["error"], members["error_description"] = code, text
		}
	}}
}

// ended is worded of nothing but the end of a refresh token.
func ended(member string, words ...string) dialect {
	stands := map[string]string{}
	for _, word := range words {
		stands[word] = invalidGrant
	}
	return worded(member, stands)
}

// listed is ended for brands that answer a list of errors.
func listed() dialect {
	return dialect{answer: func(members map[string]any) {
		list, _ := members["errors"].([]any)
		for _, one := range list {
			object, _ := one.(map[string]any)
			code := cmp.Or(textOf(object, "errorType"), textOf(object, "code"))
			switch textOf(object, "resource") {
			case "RefreshToken":
				code = invalidGrant
			case "Application":
				code = invalidClient
			}
			members["error"], members["error_description"] = code, textOf(object, "message")
		}
	}}
}

// yammerDialect: the access token is an object.
func yammerDialect() dialect {
	return dialect{answer: func(members map[string]any) {
		if object, ok := members["access_token"].(map[string]any); ok {
			members["access_token"] = object["token"]
		}
	}}
}

// deezerDialect: the lifetime has another name, and 0 is for ever.
func deezerDialect() dialect {
	return dialect{answer: func(members map[string]any) { members["expires_in"] = members["expires"] }}
}

// tiktokDialect: the client is called client_key.
func tiktokDialect() dialect {
	return dialect{request: func(r *http.Request, form url.Values, _ http.RoundTripper) (*http.Request, error) {
		form.Set("client_key", form.Get("client_id"))
		form.Del("client_id")
		return withBody(r, form.Encode(), "application/x-www-form-urlencoded"), nil
	}}
}

// wechatDialect: GET requests, a client with other names, errors by number.
func wechatDialect() dialect {
	return dialect{
		request: func(r *http.Request, form url.Values, _ http.RoundTripper) (*http.Request, error) {
			form.Set("appid", form.Get("client_id"))
			if form.Get("grant_type") == "authorization_code" {
				form.Set("secret", form.Get("client_secret"))
			}
			for _, name := range []string{"client_id", "client_secret", "redirect_uri"} {
				form.Del(name)
			}
			r.Method, r.Body, r.ContentLength, r.GetBody = http.MethodGet, nil, 0, nil
			r.Header.Del("Content-Type")
			r.URL.RawQuery = form.Encode()
			return r, nil
		},
		answer: func(members map[string]any) {
			numbered(members, "errcode", "errmsg", map[string]string{
				"40030": invalidGrant, "42002": invalidGrant, "42007": invalidGrant, "40013": invalidClient, "40125": invalidClient,
			})
		},
	}
}

const larkAppTokenURL = "https://open.feishu.cn/open-apis/auth/v3/app_access_token/internal/"

// larkDialect: JSON requests under an access token of the application, which is fetched first; answers in an envelope.
func larkDialect() dialect {
	return dialect{
		request: func(r *http.Request, form url.Values, send http.RoundTripper) (*http.Request, error) {
			// Not the request's context: nobody has seen the refresh token while only this call has gone out.
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			token, err := larkAppToken(ctx, form, send)
			if err != nil {
				return nil, err
			}
			members := map[string]string{"grant_type": form.Get("grant_type")}
			for _, name := range []string{"code", "refresh_token"} {
				if value := form.Get(name); value != "" {
					members[name] = value
				}
			}
			body, err := json.Marshal(members)
			if err != nil {
				return nil, err
			}
			r.Header.Set("Authorization", "Bearer "+token)
			return withBody(r, string(body), "application/json; charset=utf-8"), nil
		},
		answer: func(members map[string]any) {
			lift(members, "data")
			numbered(members, "code", "msg", map[string]string{
				"20026": invalidGrant, "20037": invalidGrant, "20064": invalidGrant, "20073": invalidGrant,
				"10003": invalidClient, "10014": invalidClient,
			})
		},
	}
}

// refusedClient says that a call which must come first was refused, with the brand's number.
type refusedClient int

// Error implements error.
func (r refusedClient) Error() string {
	return fmt.Sprintf("the provider refused the application (%d)", int(r))
}

func larkAppToken(ctx context.Context, form url.Values, send http.RoundTripper) (string, error) {
	body, err := json.Marshal(map[string]string{"app_id": form.Get("client_id"), "app_secret": form.Get("client_secret")})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, larkAppTokenURL, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	response, err := (limited{send}).RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"app_access_token"`
		Code  int    `json:"code"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Token == "" && answer.Code == 0 {
		return "", errors.New("the provider gave the application no access token")
	}
	if answer.Token == "" {
		return "", refusedClient(answer.Code)
	}
	return answer.Token, nil
}

func withBody(r *http.Request, body, mediaType string) *http.Request {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	if again := r.GetBody; again != nil { // it says whether it may be sent again
		r.GetBody = func() (io.ReadCloser, error) {
			if _, err := again(); err != nil {
				return nil, err
			}
			return io.NopCloser(strings.NewReader(body)), nil
		}
	}
	r.Header.Set("Content-Type", mediaType)
	return r
}
