package tokenendpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
)

// One value that is no JSON costs no refresh token that came with it.
func TestAnAnswerWithOneValueThatIsNone(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"NaN", "Infinity", "-Infinity", "+3600", ".5", "03600", "3600.", "0x10", "3_600", "1h", "'3600'", "undefined", "None", ""} {
		for _, body := range []string{
			`{"access_token":"a","expires_in":%s,"refresh_token":"r","id_token":"i"}`,
			`{"expires_in" : %s , "access_token":"a", "more": {"of":["x", 1]}, "refresh_token" : "r","id_token":"i"}`,
			"{\n  \"access_token\": \"a\",\n  \"refresh_token\": \"r\",\n  \"id_token\":\"i\",\n  \"expires_in\": %s\n}\n",
		} {
			answer, err := answered(t, fmt.Sprintf(body, bad), 0)
			if err != nil || answer.Access != "a" || answer.Refresh != "r" || answer.ID != "i" || answer.Lifetime != 0 {
				t.Errorf(body+": %v, %v", bad, answer, err)
			}
		}
	}
	if answer, err := answered(t, `{"access_token":"a","expires_in":60,"refresh_token":"r",}`, 0); err != nil || answer.Refresh != "r" || answer.Lifetime != time.Minute {
		t.Errorf("with a comma at the end: %v, %v", answer, err)
	}
}

// Nor does one text that is no JSON. A new refresh token that is none itself is another matter: nobody knows what it is.
func TestAnAnswerWithOneTextThatIsNone(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a\nb", "a\t", `\x41`, `it\'s`, `\u12`, `\"a\", \x {b}`, "\xff\n\\\\"} {
		for _, body := range []string{
			`{"scope":"%s","access_token":"a","refresh_token":"r","id_token":"i"}`,
			`{"access_token":"a", "more": {"of":["x", 1]}, "scope" : "%s" , "refresh_token" : "r","id_token":"i"}`,
			"{\n  \"access_token\": \"a\",\n  \"refresh_token\": \"r\",\n  \"id_token\":\"i\",\n  \"scope\": \"%s\"\n}\n",
		} {
			answer, err := answered(t, fmt.Sprintf(body, bad), 0)
			if err != nil || answer.Access != "a" || answer.Refresh != "r" || answer.ID != "i" || answer.Scope != "" {
				t.Errorf(body+": %v, %v", bad, answer, err)
			}
		}
		_, err := answered(t, fmt.Sprintf(`{"access_token":"a","refresh_token":"%s","expires_in":60}`, bad), 0)
		var refusal *auth.ProviderError
		if !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryUnknown || refusal.Failure.Code != auth.CodeUnreadable {
			t.Errorf("the refresh token %q: %v", bad, err)
		}
	}
}

// What came whole of an answer that breaks off is used if a new refresh token is in it: the one before may have been spent.
func TestAnAnswerThatBreaksOff(t *testing.T) {
	t.Parallel()
	const whole = `{"token_type":"Bearer","expires_in":60,"access_token":"the-access","refresh_token":"the-refresh","scope":"a, b} c","id_token":"e.y.J"}`
	after := func(part string) int { return strings.Index(whole, part) + len(part) }
	for cut := 1; cut < len(whole); cut++ {
		answer, err := answered(t, whole[:cut], len(whole))
		var refusal *auth.ProviderError
		switch errors.As(err, &refusal); {
		case cut >= after(`"the-refresh"`) && err == nil && answer.Access == "the-access" && answer.Refresh == "the-refresh" && answer.Lifetime == time.Minute:
		case cut < after(`"the-refresh"`) && refusal != nil && refusal.Delivery == auth.DeliveryUnknown && refusal.Failure.Code == auth.CodeCutOff && refusal.Salvage == nil:
		default:
			t.Errorf("%s: %v, %v", whole[:cut], answer, err)
		}
	}
	for _, body := range []string{
		`{"refresh_token":"the-refresh","access_token":"the-acc`,
		`{"access_token":"the-access","refresh_token":"the-refresh","expires_in":36`, // nobody knows how long it lives
		"refresh_token=the-refresh&access_token=the-acc", "access_token=the-access&refresh_token=the-refresh&expires_in=36",
	} {
		_, err := answered(t, body, 500)
		var refusal *auth.ProviderError
		if !errors.As(err, &refusal) || refusal.Failure.Code != auth.CodeCutOff || refusal.Salvage == nil || refusal.Salvage.Refresh != "the-refresh" {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, body := range []string{`{"error":"invalid_grant","error_descr`, "error=invalid_grant&error_descr"} {
		_, err := answered(t, body, 500)
		var refusal *auth.ProviderError
		if !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryAnswered || refusal.Failure.Code != "invalid_grant" {
			t.Errorf("an error: %v", err)
		}
	}
}

// A form, too, is used as far as it can be read, and as far as it came whole.
func TestAFormOfWhichAPartIsOdd(t *testing.T) {
	t.Parallel()
	for _, odd := range []string{"scope=%zz", "scope=openid;email", "%=x", "scope=100%"} {
		for _, body := range []string{"access_token=a&expires_in=60&%s&refresh_token=r", "access_token=a&expires_in=60&refresh_token=r&%s"} {
			answer, err := answered(t, fmt.Sprintf(body, odd), 0)
			if err != nil || answer.Access != "a" || answer.Refresh != "r" || answer.Lifetime != time.Minute || answer.Scope != "" || answer.BrokeOff {
				t.Errorf(body+": %v, %v", odd, answer, err)
			}
		}
		if answer, err := answered(t, "access_token=a&"+odd, 0); err != nil || answer.Access != "a" || answer.Refresh != "" {
			t.Errorf("without a refresh token, %s: %v, %v", odd, answer, err)
		}
	}
	for _, first := range []string{"", "uid=5&", "refresh_token_expires_in=9&"} {
		for _, scope := range []string{"openid email", "a<b", "a>b"} {
			answer, err := answered(t, first+"access_token=a&expires_in=60&scope="+scope+"&refresh_token=r", 0)
			if err != nil || answer.Refresh != "r" || answer.Scope != scope {
				t.Errorf("%s, with %q: %v, %v", first, scope, answer, err)
			}
		}
	}
	_, err := answered(t, "error=invalid_grant&error_description=refresh_token=x;y", 0)
	if refusal := new(auth.ProviderError); !errors.As(err, &refusal) || refusal.Failure.Code != "invalid_grant" {
		t.Errorf("a refusal: %v", err)
	}
	const whole = "access_token=the-access&expires_in=60&refresh_token=the-refresh&scope=openid"
	for cut := 1; cut < len(whole); cut++ {
		answer, err := answered(t, whole[:cut], len(whole))
		var refusal *auth.ProviderError
		switch errors.As(err, &refusal); {
		case cut > strings.Index(whole, "&scope") && err == nil && answer.Access == "the-access" && answer.Refresh == "the-refresh" && answer.BrokeOff:
		case cut <= strings.Index(whole, "&scope") && refusal != nil && refusal.Delivery == auth.DeliveryUnknown && refusal.Failure.Code == auth.CodeCutOff && refusal.Salvage == nil:
		default:
			t.Errorf("%s: %v, %v", whole[:cut], answer, err)
		}
	}
	for _, body := range []string{"access_token=a&refresh_token=r%zz&expires_in=60", "access_token=a&refresh_token=r;x&expires_in=60"} {
		_, err := answered(t, body, 0)
		var refusal *auth.ProviderError
		if !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryUnknown || refusal.Failure.Code != auth.CodeUnreadable {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Whatever the status, a new refresh token is one, also in a form.
func TestAFormWithAnOddStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		code   string // empty: it is used
	}{
		{http.StatusInternalServerError, "access_token=a&expires_in=60&refresh_token=r", ""},
		{http.StatusForbidden, "access_token=a&expires_in=60&refresh_token=r", ""},
		{http.StatusPermanentRedirect, "access_token=a&expires_in=60&refresh_token=r", auth.CodeRedirect},
		{http.StatusBadGateway, "error=unwell&refresh_token=r", "unwell"},
	} {
		answer, err := read(&response{status: c.status, body: []byte(c.body)}, time.Now())
		if refusal := new(auth.ProviderError); errors.As(err, &refusal) && refusal.Salvage != nil && refusal.Failure.Code == c.code {
			answer = *refusal.Salvage
		}
		if (err == nil) != (c.code == "") || answer.Refresh != "r" {
			t.Errorf("%d %s: %v, %v", c.status, c.body, answer, err)
		}
	}
	_, err := read(&response{status: http.StatusBadGateway, body: []byte("error=unwell")}, time.Now())
	if refusal := new(auth.ProviderError); !errors.As(err, &refusal) || refusal.Failure.Code != auth.CodeHTTPStatus {
		t.Errorf("what a gateway says in a line: %v", err)
	}
}

// A token with a value is taken, whichever comes first; of other members the last of JSON, and the first of a form.
func TestAMemberThatComesTwice(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"refresh_token=&access_token=a&expires_in=60&refresh_token=r", "access_token=a&expires_in=60&refresh_token=r&refresh_token=",
		`{"access_token":"a","refresh_token":"r","expires_in":60,"refresh_token":null}`,
		`{"access_token":"a","refresh_token":"r","expires_in":60,"refresh_token":""}`,
		`{"refresh_token":"","access_token":"a","expires_in":60,"refresh_token":"r"}`,
		`{"refresh_token":"earlier","access_token":"a","expires_in":60,"refresh_token":"r"}`,
		`{"access_token":"a","refresh_token":"r","expires_in":60,"error":"x","error":null}`,
		`{"access_token":"a","refresh_token":"r","expires_in":60,"error":"x","error":""}`,
		`{"access_token":"a","refresh_token":"r","expires_in":9,"expires_in":60}`,
		"access_token=a&refresh_token=r&expires_in=60&error=&error=0", "access_token=a&refresh_token=r&expires_in=60&expires_in=9",
	} {
		if answer, err := answered(t, body, 0); err != nil || answer.Access != "a" || answer.Refresh != "r" || answer.Lifetime != time.Minute {
			t.Errorf("%s: %v, %v", body, answer, err)
		}
	}
}

// A text with pairs in it is no token, and may hold the new refresh token.
func TestATokenWithPairsInIt(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"access_token=a\ntoken_type=bearer\nexpires_in=60\nrefresh_token=r", "access_token=a\r\n refresh_token=r\r\n",
		`{"access_token":"a\nrefresh_token=r","expires_in":60}`, `{"access_token":"a","refresh_token":"r\nexpires_in=60\n"}`,
		`{"access_token":"a\tscope=b","refresh_token":"r\tscope=b","expires_in":60,}`,
	} {
		_, err := answered(t, body, 0)
		var refusal *auth.ProviderError
		if !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryUnknown || refusal.Failure.Code != auth.CodeUnreadable || refusal.Salvage != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
	for _, body := range []string{`{"access_token":"a\nscope=b","refresh_token":"r","expires_in":60}`, "access_token=a%0Ascope=b&refresh_token=r"} {
		_, err := answered(t, body, 0)
		var refusal *auth.ProviderError
		if !errors.As(err, &refusal) || refusal.Failure.Code != auth.CodeNoAccessToken || refusal.Salvage == nil || refusal.Salvage.Refresh != "r" {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// Whatever else is in a token is of it, such as where base64 is broken into lines.
func TestATokenWithAControlCharacter(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"MIIB\nAAAA", "MIIB\nAAAA\nabc=", "MIIB\r\nab==", "r\x00s", "r\x7fs"} {
		quoted, _ := json.Marshal(token)
		for _, body := range []string{
			fmt.Sprintf(`{"access_token":"a","refresh_token":%s,"expires_in":60}`, quoted), "access_token=a&expires_in=60&refresh_token=" + url.QueryEscape(token),
		} {
			if answer, err := answered(t, body, 0); err != nil || answer.Access != "a" || answer.Refresh.Reveal() != token {
				t.Errorf("%q: %v, %v", body, answer, err)
			}
		}
	}
}

// Of JSON everything is read, however much there is.
func TestAnAnswerWithManyMembers(t *testing.T) {
	t.Parallel()
	body := `{"access_token":"a","expires_in":60,` + strings.Repeat(`"more":1,`, mostMembers) + `"refresh_token":"r"}`
	if answer, err := answered(t, body, 0); err != nil || answer.Access != "a" || answer.Refresh != "r" {
		t.Errorf("%v, %v", answer, err)
	}
}

// What is no answer at all is not taken for one.
func TestOddObjectsAreUnreadable(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"{", "{{", `{"`, `{"a"`, `{"a":`, `{"a":x`, `{"a":x}`, `{x:1}`, `{"access_token":'a',"expires_in":60}`, `{"a":["access_token":"a"}`, `{"a":"b" "access_token":"a"}`, `{"a":"\x "b", "access_token":"a"}`, `{"a":"\x, "access_token":"a"}`, `{"a":'b, "refresh_token":"r", "access_token":"a", 'c',"d":1}`,
		"{" + strings.Repeat(`"":1,`, mostMembers) + `"access_token":"a",}`,
		`{"access_token":"a","refresh_token":"r`, `{"access_token":"a","refresh_token":{"r":"r","access_token":"b"`,
		`top.location="https://id.example/?a=1&error=login_required&d=<x>"`,
	} {
		_, err := answered(t, body, 0)
		var refusal *auth.ProviderError
		if !errors.As(err, &refusal) || refusal.Failure.Code != auth.CodeUnreadable || refusal.Delivery != auth.DeliveryUnknown {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// answered is what becomes of an answer of which body comes, and promised bytes were to; 0 for what comes.
func answered(t *testing.T, body string, promised int) (auth.Answer, error) {
	t.Helper()
	return clientOf(t, ClientSecretBasic, func(w http.ResponseWriter, _ *http.Request) {
		if promised > 0 {
			w.Header().Set("Content-Length", strconv.Itoa(promised))
		}
		fmt.Fprint(w, body)
	}).Exchange(t.Context(), refresh)
}
