package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keyturn/auth/provider/scripted"
)

// runCheck is runOn for the check command.
func runCheck(t *testing.T, providers string, args ...string) (output string, code int) {
	t.Helper()
	return runOn(t, providers, append([]string{"check"}, args...)...)
}

// runOn runs the built program to its end over the providers of a file, and returns what it printed and its exit code.
func runOn(t *testing.T, providers string, args ...string) (output string, code int) {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	file := tempFile(t, "keyturn.yaml", "base_url: https://keyturn.example\nproviders:\n"+providers)
	dir := filepath.Join(t.TempDir(), "data")
	cmd := exec.CommandContext(t.Context(), path, append(args, "--addr", "localhost:0", "--config", file, "--data-dir", dir)...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "NO_PROXY=*"}
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	for _, secret := range []string{"the-secret", scripted.ClientSecret} {
		if strings.Contains(string(text), secret) {
			t.Errorf("it prints a secret:\n%s", text)
		}
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func says(t *testing.T, output string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(output, want) {
			t.Errorf("it does not say %q:\n%s", want, output)
		}
	}
}

func entryFor(idp *scripted.Provider, name, more string) string {
	return "  - {name: " + name + ", issuer: '" + idp.URL + "', client_id: " + scripted.ClientID +
		", client_secret: " + scripted.ClientSecret + more + "}\n"
}

func TestCheckSaysWhatAGoodProviderCan(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.Document = func(document map[string]any) {
		document["scopes_supported"] = []string{"openid", "offline_access", "\x1b[31mred"}
		document["code_challenge_methods_supported"] = []string{"S256"}
		document["grant_types_supported"] = []string{"authorization_code", "refresh_token", "\x1b[31mRED"}
		document["end_session_endpoint"] = idp.URL + "/logout"
		document["backchannel_logout_supported"] = true
		document["authorization_response_iss_parameter_supported"] = true
		document["id_token_signing_alg_values_supported"] = []string{"ES256", "HS256", "HS512", "XS256"}
	}
	output, code := runCheck(t, entryFor(idp, "work", "")+"  - {type: github, client_id: x, client_secret: the-secret}\n")
	says(t, output,
		"issuer                   "+idp.URL+"\n", "token endpoint           "+idp.URL+"/token\n",
		"revocation endpoint      "+idp.URL+"/revoke\n", "introspection endpoint   none\n",
		"end of session           "+idp.URL+"/logout\n",
		"back-channel logout      yes\n", "iss in answers           yes\n", "PKCE                     S256\n", "id tokens signed with    ES256\n",
		"- For some clients it signs id tokens with HS256, HS512, which proves nothing: the client has to be registered there for ES256.\n",
		"scopes asked for         openid offline_access\n", "scope offline_access     yes\n",
		"- Not asked for, because it is not announced: profile email. Name it in KEYTURN_SCOPES, or scopes in the file, to ask all the same.\n",
		"keys                     1 at "+idp.URL+"/keys\n",
		"client authentication    client_secret_basic; it takes client_secret_basic\n",
		"grant types              authorization_code, refresh_token, ?[31mRED\n",
		"callback URL           https://keyturn.example/auth/work/callback\n", "post-logout redirect   https://keyturn.example/\n",
		"back-channel logout    https://keyturn.example/auth/work/backchannel-logout\n",
		`github (type github, shown as "GitHub")`, "renews                   if set so\n",
		"https://keyturn.example/auth/github/callback\n",
		"Nothing stands against signing in.",
	)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestCheckSaysWhatWillNotWork(t *testing.T) {
	t.Parallel()
	odd := scripted.New(t)
	odd.Document = func(document map[string]any) {
		document["grant_types_supported"] = []string{"authorization_code"}
		document["response_types_supported"] = []string{"id_token"}
		document["code_challenge_methods_supported"] = []string{"plain"}
		document["id_token_signing_alg_values_supported"] = []string{"HS256", "none"}
		document["jwks_uri"] = odd.URL + "/nowhere"
		delete(document, "revocation_endpoint")
		document["require_signed_request_object"], document["require_pushed_authorization_requests"] = true, true
	}
	keyless := scripted.New(t)
	keyless.Keys = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"keys": []any{map[string]any{"kty": "oct", "k": "AAAA"}, map[string]any{"kty": "EC"}}})
	}
	setless := scripted.New(t)
	setless.Keys = func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{}) }
	renamed := scripted.New(t)
	renamed.Document = func(document map[string]any) { document["issuer"] = renamed.URL + "/" }
	gone := scripted.New(t)
	gone.Close()
	output, code := runCheck(t, entryFor(odd, "odd", ", client_auth: client_secret_post")+entryFor(renamed, "renamed",
		"")+entryFor(gone, "gone", "")+
		entryFor(scripted.New(t), "good", "")+entryFor(keyless, "keyless", "")+entryFor(setless, "setless", ""))
	says(t, output,
		"It does not announce the response type code, the only one that Keyturn uses.",
		"It does not take PKCE with S256, only plain.",
		"It signs id tokens only with HS256, none, which proves nothing: sign-ins will be refused.",
		"Its keys could not be read at "+odd.URL+"/nowhere: it answers with status 404.",
		"It does not take the client authentication client_secret_post, only client_secret_basic.",
		"It announces no scope offline_access: it may give no refresh token",
		"It announces no revocation", "It announces no end of session",
		`The issuer in the metadata is "`+renamed.URL+`/", the settings say "`+renamed.URL+`": they must be the same`,
		"The metadata could not be read at "+gone.URL+"/.well-known/openid-configuration: ", "connection refused",
		"It takes signed authorization requests only (RFC 9101)", "It takes pushed authorization requests only (RFC 9126), and does not say where.",
		"2 at "+keyless.URL+"/keys, of which 0 can be used", "None of its keys can be used",
		"What it answers at "+setless.URL+"/keys is no key set.",
		"5 of 6 providers will not work as they are set.",
	)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
}

// Glewlwyd renews and does not announce it; oauth2-mock-server announces no client authentication but none, and takes any.
func TestWhatAProviderMayDoWithoutAnnouncingItStandsAgainstNothing(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.Document = func(document map[string]any) {
		document["grant_types_supported"] = []string{"authorization_code", "implicit"}
		document["token_endpoint_auth_methods_supported"] = []string{"none"}
	}
	output, code := runCheck(t, entryFor(idp, "work", ""))
	says(t, output,
		"To know:\n", "- It may not renew: it does not announce the grant type refresh_token.\n",
		"- It announces only clients that do not authenticate; Keyturn sends what is set nevertheless, by client_secret_basic.\n",
		"Nothing stands against signing in.",
	)
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, output)
	}
}

func TestCheckSaysHowAnswersCome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		modes []string
		set   string
		says  string
	}{
		"by default":      {nil, "", ""},
		"by query":        {[]string{"query", "fragment"}, "", ""},
		"by a form":       {[]string{"fragment", "form_post"}, "", "- It does not announce the response mode query, the default, which Keyturn asks for;"},
		"as it is set to": {[]string{"form_post"}, ", auth_params: {response_mode: form_post}", ""},
		"by none of them": {[]string{"fragment"}, "", "- It announces neither the response mode query nor form_post, only fragment.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			idp.Document = func(document map[string]any) {
				if c.modes != nil {
					document["response_modes_supported"] = c.modes
				}
			}
			output, code := runCheck(t, entryFor(idp, "work", c.set))
			says(t, output, c.says)
			if wrong := strings.Contains(c.says, "neither"); strings.Contains(output, "response mode") != (c.says != "") || (code != 0) != wrong {
				t.Errorf("exit code %d:\n%s", code, output)
			}
		})
	}
}

// Backstage makes its first key when it signs its first token.
func TestAProviderThatHasNoKeyYetMayBeWell(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.Keys = func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"keys": []any{}}) }
	output, code := runCheck(t, entryFor(idp, "work", ""))
	says(t, output, "keys                     0 at "+idp.URL+"/keys\n", "To know:\n", "- It publishes no key at the moment.", "Nothing stands against signing in.")
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, output)
	}
}

// RFC 8414: its metadata is elsewhere, and before the issuer's path.
func TestCheckTellsOAuthWithoutOpenID(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		issuer, ok := strings.CutPrefix(r.URL.Path, "/.well-known/oauth-authorization-server")
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		writeJSON(w, map[string]any{"issuer": "http://" + r.Host + strings.TrimSuffix(issuer, "else"), "token_endpoint": "http://" + r.Host + "/token"})
	}))
	t.Cleanup(server.Close)
	entry := func(name, path string) string {
		return "  - {name: " + name + ", issuer: '" + server.URL + path + "', client_id: x, client_secret: the-secret}\n"
	}
	output, code := runCheck(t, entry("root", "")+entry("realm", "/realm")+entry("other", "/realm/else"))
	says(t, output, "It speaks OAuth 2.0 without OpenID Connect, of which there is nothing at "+server.URL+"/.well-known/openid-configuration: ",
		"It speaks OAuth 2.0 without OpenID Connect, of which there is nothing at "+server.URL+"/realm/.well-known/openid-configuration: ",
		"The metadata could not be read at "+server.URL+"/realm/else/.well-known/openid-configuration: it answers with status 404.",
		"3 of 3 providers will not work",
	)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestCheckForPrograms(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	output, code := runCheck(t, entryFor(idp, "work", ""), "--json")
	var results []struct {
		Name     string
		OK       bool
		Callback string `json:"callback_url"`
		Wrong    []string
		Facts    []struct{ Name, Value string }
	}
	if err := json.Unmarshal([]byte(output), &results); err != nil || code != 0 {
		t.Fatalf("%v, exit code %d:\n%s", err, code, output)
	}
	if len(results) != 1 || !results[0].OK || results[0].Callback != "https://keyturn.example/auth/work/callback" ||
		results[0].Wrong == nil || results[0].Facts[0].Value != idp.URL {
		t.Errorf("%+v", results)
	}
}

func TestAMissingClientSecretIsNoted(t *testing.T) {
	t.Parallel()
	output, code := runCheck(t, "  - {type: github, client_id: x}\n  - {type: spotify, client_id: y}\n")
	says(t, output, "- client_secret is not set, and GitHub signs nobody in without one.\n", "1 of 2 providers will not work")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
}

// The check and the server answer wrong settings with the same line and the same code.
func TestWrongSettingsOfProviders(t *testing.T) {
	t.Parallel()
	for providers, want := range map[string]string{
		"  - {type: auth0, client_id: x}\n": "providers.auth0.domain (line 3 of FILE): is not set, and Auth0 needs it; allowed: a host without a path",
		"  - {type: github}\n":              "providers.github.client_id (line 3 of FILE): is not set; allowed: the client id that GitHub gave",
		"  - {type: apple, client_id: x, team_id: T, key_id: K, key_file: /nowhere}\n": `providers.apple.key_file (line 3 of FILE): "/nowhere" cannot ` +
			"be read (no such file or directory); allowed: the path of the .p8 file",
	} {
		for _, args := range [][]string{{"check"}, nil} {
			output, code := runOn(t, providers, args...)
			line := inFile.ReplaceAllString(output, "${1}FILE)")
			if code != 2 || !strings.HasPrefix(line, "keyturn: "+want) || strings.Count(output, "\n") != 1 {
				t.Errorf("%v: exit code %d: %s", args, code, line)
			}
		}
	}
	if output, code := runOn(t, "  - {name: dev, issuer: 'https://i.example', client_id: x}\n", "--dev-provider"); code != 2 {
		t.Errorf("what only the start finds: exit code %d: %s", code, output)
	}
}

var inFile = regexp.MustCompile(`(line \d+ of )[^)]*\)`)
