package provider

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

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
	lark := &translator{dialect: larkDialect(), next: answering(func(*http.Request) (*http.Response, error) {
		called++
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"code":10014,"msg":"app secret invalid"}`))}, nil
	})}
	client := &tokenendpoint.Client{
		HTTP: &http.Client{Transport: lark}, TokenURL: "https://open.feishu.cn/token", ClientID: "cli", ClientSecret: "secret",
		AuthMethod: tokenendpoint.ClientSecretPost, Now: time.Now,
	}
	_, err := client.Exchange(t.Context(), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"rt"}})
	refusal, ok := err.(*auth.ProviderError) //nolint:errorlint // it is to be one itself
	if !ok || refusal.Failure.Code != "invalid_client" || refusal.Delivery != auth.DeliveryAnswered || called != 1 {
		t.Errorf("%v after %d calls", err, called)
	}
}
