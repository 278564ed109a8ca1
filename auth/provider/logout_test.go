package provider_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

// FuzzLogoutToken signs what the fuzzer makes with the provider's own key: whatever a provider sends, only a token that has all
// that section 2.6 of OpenID Connect Back-Channel Logout 1.0 asks is taken.
func FuzzLogoutToken(f *testing.F) {
	idp := scripted.New(f)
	p, err := provider.NewOIDC(provider.Config{
		Name: "work", Type: "oidc", Issuer: idp.URL, ClientID: scripted.ClientID, ClientSecret: scripted.ClientSecret, Scopes: []string{"openid"},
	}, provider.Options{RenewTimeout: 5 * time.Second, Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(idp.LogoutClaims("s1", "alice"))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := p.VerifyLogout(f.Context(), idp.SignPayload("logout+jwt", good)); err != nil {
		f.Fatalf("the good one is refused: %v", err)
	}
	f.Add("logout+jwt", string(good))
	f.Add("", string(good))
	f.Add("at+jwt", string(good))
	for _, change := range [][2]string{
		{`"iss":"`, `"iss":"https://evil.example/`}, {`"iat":`, `"iat":-`}, {`"jti":`, `"jti":"","jti":`}, {`"events":{`, `"Events":{`}, {`{}`, `null`}, {`{}`, `[]`}, {`{}`, ` {}`},
		{`{"`, `{"nonce":null,"`}, {`{"`, `{"Nonce":"x","`}, {`"client"`, `["client","other"]`}, {`"client"`, `{"client":1}`}, {`"s1"`, `["s1"]`}, {`"s1"`, `1`},
		{`"exp":`, `"exp":1e300,"x":`}, {`"exp":`, `"x":`}, {`"iat":`, `"iat":"x","x":`}, {`"sub"`, `"SUB"`}, {`{`, `[`}, {`"alice"`, `"\u0000"`},
	} {
		f.Add("logout+jwt", strings.Replace(string(good), change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, typ, payload string) {
		if strings.Count(payload, ".") == 2 {
			// As it is: no signature of ours.
			if _, err := p.VerifyLogout(t.Context(), payload); err == nil {
				t.Fatalf("taken unsigned: %q", payload)
			}
		}
		logout, err := p.VerifyLogout(t.Context(), idp.SignPayload(typ, []byte(payload)))
		if err != nil {
			return
		}
		var c struct {
			Iss, Sub, Sid, Jti string
			Aud                any
			Iat                float64
			Exp                float64
			Events             map[string]map[string]any
		}
		claims := map[string]any{}
		if json.Unmarshal([]byte(payload), &claims) != nil || json.Unmarshal([]byte(payload), &c) != nil {
			t.Fatalf("taken: %q", payload)
		}
		several, _ := c.Aud.([]any)
		_, nonce := claims["nonce"]
		age := time.Since(time.Unix(int64(c.Iat), 0)).Abs()
		if c.Iss != idp.URL || c.Aud != scripted.ClientID && !slices.Contains(several, any(scripted.ClientID)) || nonce || c.Jti == "" ||
			c.Events[scripted.LogoutEvent] == nil || c.Sub == "" && c.Sid == "" || age > 6*time.Minute ||
			!slices.Contains([]string{"", "jwt", "logout+jwt", "application/jwt", "application/logout+jwt"}, strings.ToLower(typ)) {
			t.Errorf("taken with typ %q: %s", typ, payload)
		}
		if logout.ID != c.Jti || logout.Session != (auth.ProviderSession{Provider: "work", SID: c.Sid, Subject: c.Sub}) || logout.Until.After(time.Now().Add(15*time.Minute)) {
			t.Errorf("read as %+v: %s", logout, payload)
		}
	})
}

func TestALogoutTokenWithoutKeysToProveIt(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := newOIDC(t, idp, nil)
	token := scripted.Forge(jose.HS256, []byte(strings.Repeat("k", 32)), idp.LogoutClaims("s1", ""))
	idp.Close()
	if _, err := p.VerifyLogout(t.Context(), token); !errors.Is(err, auth.ErrKeysUnavailable) {
		t.Errorf("%v", err)
	}
}

// Whom no database finds, no logout token is about. The database would be said to be at fault, and the token be sent again.
func TestALogoutTokenIsAboutWhatCanBeStored(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := newOIDC(t, idp, nil)
	for claim, id := range map[string]string{"sid": "s1\x00", "sub": "alice\x00", "jti": strings.Repeat("x", 256)} {
		claims := idp.LogoutClaims("s1", "alice")
		claims[claim] = id
		if _, err := p.VerifyLogout(t.Context(), idp.SignAs("logout+jwt", claims)); err == nil || errors.Is(err, auth.ErrKeysUnavailable) {
			t.Errorf("%s %q: %v", claim, id, err)
		}
	}
}
