package tokenendpoint

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyturn/auth"
)

// refusalOf is what becomes of an answer to a renewal. The body may repeat the refresh token, as %s.
func refusalOf(t *testing.T, status int, body string) *auth.ProviderError {
	t.Helper()
	client := clientOf(t, ClientSecretPost, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, strings.ReplaceAll(body, "%s", r.PostFormValue("refresh_token")))
	})
	_, err := client.Exchange(t.Context(), refresh)
	var refusal *auth.ProviderError
	if !errors.As(err, &refusal) {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	return refusal
}

// What comes without an error code says more than its status, and only to the log.
func TestWhatAnErrorWithoutACodeSays(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for body, want := range map[string]string{
		"":                              "",
		" \n":                           "",
		"Invalid client credentials":    "Invalid client credentials",
		"no:\n\x1b[31m%s":               "no:  [31m[redacted]",
		"no: the&#45;refresh-token":     "no: [redacted]",
		long:                            long[:200] + "…",
		strings.Repeat("x", 195) + "%s": strings.Repeat("x", 195) + "[reda…",
		`{"success":false,"error":{"issues":[{"code":"invalid_union"}],"name":"ZodError"}}`:            `{"success":false,"error":{"issues":[{"code":"invalid_union"}],"name":"ZodError"}}`,
		`{"title":"Bad Request","detail":"no client","status":400}`:                                    "no client",
		`{"title":"Bad Request","status":400}`:                                                         "Bad Request",
		`{"message":"no client of %s","title":"Bad Request"}`:                                          "no client of [redacted]",
		`{"message":["no client"]}`:                                                                    `{"message":["no client"]}`,
		`{"refresh_token":["This field is required."]}`:                                                `{"refresh_token":["This field is required."]}`,
		"<!doctype html><html><head><TITLE lang=en>Bad\n&amp; gone</TITLE></head><body>Bad</body>":     "Bad & gone",
		"<html><body>Bad request":                                                                      "<html><body>Bad request",
		`{"data":{"access_token":"of-nobody-knows"`:                                                    `{"data":{"access_token":" …`,
		`{"data":"{\"accessToken\" : \"of-nobody-knows\"}"}x`:                                          `{"data":"{\"accessToken\" : \" …`,
		"try at https://id.example/#x=y&id_token=of-nobody-knows&y=z":                                  "try at https://id.example/#x=y&id_token= …",
		"<error><refresh_token>of-nobody-knows</refresh_token></error> and ?":                          "<error><refresh_token> …",
		`{"message":"cannot issue access_token=of-nobody-knows for you"}`:                              "cannot issue access_token= …",
		`{"detail":"{\"refresh_token\":\"of-nobody-knows\"}"}`:                                         `{"refresh_token":" …`,
		`{"access_token":5550001`:                                                                      `{"access_token":5 …`,
		"no refresh-token: of-nobody-knows":                                                            "no refresh-token: …",
		"access_token%3Dmine":                                                                          "access_token%3D …",
		"Key (refresh_token)=(op4que-of-nobody-knows) already exists.":                                 "Key (refresh_token)=(…) already exists.",
		`{"token":"eyJhbGciOiJub25lIn0.e30.of-nobody-knows"} is bad`:                                   `{"token":"…"} is bad`,
		"no token 0123456789abcdef:0f1e2d3c4b5a6978:fedcba9876543210.":                                 "no token …",
		"no 1234567890|of-nobody|knows-1, and (M.C5of!nobody*knows$1m)":                                "no …, and (…)",
		`{"of":"nob0dy\/knows\/wh0\/has\/it","in":"a%2Fform%2Bas%2Fit%3D","code":"invalid_by_4_of_9"}`: `{"of":"…","in":"…","code":"invalid_by_4_of_9"}`,
		`{"message":"no of&#43;nobody&#x2F;knows&#x3D;"}`:                                              "no …",
		`{"at":"08:30:15","status":500,"path":"/oauth2/token","ok":false} in 12:34; 50% of "a"|"b"`:    `{"at":"08:30:15","status":500,"path":"/oauth2/token","ok":false} in 12:34; 50% of "a"|"b"`,
		"クライアントが見つかりません。エラー40013を確認してくださいABC":                                                          "クライアントが見つかりません。エラー40013を確認してくださいABC",
	} {
		for status, code := range map[int]string{
			http.StatusBadRequest: auth.CodeHTTPStatus, http.StatusForbidden: auth.CodeHTTPStatus, http.StatusBadGateway: auth.CodeHTTPStatus,
			http.StatusTooManyRequests: auth.CodeRateLimited,
		} {
			f := refusalOf(t, status, body).Failure
			if f.Said != want || f.Code != code || f.Detail != fmt.Sprint("HTTP status ", status) {
				t.Errorf("%d %.100q: %s, %s, said %q, want %q", status, body, f.Code, f.Detail, f.Said, want)
			}
		}
	}
	for _, redirect := range []int{http.StatusMovedPermanently, http.StatusTemporaryRedirect} {
		if f := refusalOf(t, redirect, "<title>Moved</title>").Failure; f.Said != "" {
			t.Errorf("%d: %q", redirect, f.Said)
		}
	}
}

// A code goes wherever a description does, and further.
func TestACodeOrATypeThatIsAToken(t *testing.T) {
	t.Parallel()
	for _, token := range []string{
		"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2ln", "1.AXoA7f2kLq-Zr0W9_of-nobody-knows-8xQ", "M.C5of!nobody*Knows$1m-and-as-long-as-this",
		"1234567890|AXoA7f2kLqZr0W9ofnobody|knows8xQ",
	} {
		if f := refusalOf(t, http.StatusBadRequest, `{"error":"`+token+`"}`).Failure; f.Code != "…" {
			t.Errorf("the code is %q", f.Code)
		}
		f := refusalOf(t, http.StatusOK, `{"access_token":"a","token_type":"`+token+`"}`).Failure
		if f.Code != auth.CodeTokenType || f.Detail != "token_type …" {
			t.Errorf("%s: %q", f.Code, f.Detail)
		}
	}
	for code, want := range map[string]string{
		"0123456789abcdef:0f1e2d3c4b5a6978:fedcba9876543210:0123456789abcdef":              "…",
		"refresh_token_already_used":                                                       "refresh_token_already_used",
		"urn:example:oauth2:refresh-token-is-of-another-application":                       "urn:example:oauth2:refresh-token-is-of-another-application",
		"invalid_grant: The refresh token is of another application, or it was used twice": "invalid_grant: The refresh token is of another application, or it was used twice",
	} {
		if f := refusalOf(t, http.StatusBadRequest, `{"error":"`+code+`"}`).Failure; f.Code != want {
			t.Errorf("the code is %q, want %q", f.Code, want)
		}
	}
}

// A description is for people, and whole, but for what has the shape of a token, which may be one that nobody here knows.
func TestADescriptionWithATokenThatNobodyKnows(t *testing.T) {
	t.Parallel()
	for detail, want := range map[string]string{
		"of eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2ln: gone":                                       "of …: gone",
		"its successor " + strings.Repeat("0a1b2c3d", 5) + " is in use":                                "its successor … is in use",
		"its successor 1.AXoA7f2kLq-Zr0W9_of-nobody-knows-8xQ is in use":                               "its successor … is in use",
		"Invalid refresh_token: it was used before.":                                                   "Invalid refresh_token: it was used before.",
		"AADSTS700082: expired. Trace ID: 0d1ae1b2-9c4f-4a57-8a39-3a1d6e2b0c00 at 2026-01-02T03:04:05": "AADSTS700082: expired. Trace ID: 0d1ae1b2-9c4f-4a57-8a39-3a1d6e2b0c00 at 2026-01-02T03:04:05",
		"see https://id.example/docs/OAuth2/Errors-2024#invalid_grant":                                 "see https://id.example/docs/OAuth2/Errors-2024#invalid_grant",
		"client_application_of_the_development_team: none":                                             "client_application_of_the_development_team: none",
	} {
		if f := refusalOf(t, http.StatusBadRequest, fmt.Sprintf(`{"error":"invalid_grant","error_description":%q}`, detail)).Failure; f.Detail != want {
			t.Errorf("%q, want %q", f.Detail, want)
		}
	}
}

// Frameworks have names of their own for what RFC 6749 section 5.2 calls error_description.
func TestADescriptionUnderAnotherName(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"error":"invalid_grant","error_description":"gone","message":"no"}`:     "gone",
		`{"statusCode":401,"error":"Unauthorized","message":"gone"}`:              "gone",
		`{"error":"invalid_grant","title":"Bad Request","detail":"gone"}`:         "gone",
		`{"error":"invalid_grant","title":"gone","message":{"text":"elsewhere"}}`: "gone",
	} {
		if f := refusalOf(t, http.StatusUnauthorized, body).Failure; f.Detail != want || f.Said != "" {
			t.Errorf("%s: %q, said %q", body, f.Detail, f.Said)
		}
	}
}
