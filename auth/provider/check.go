package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// Report is what a check of a provider found. Its texts are for people, and hold no secret; some are the provider's own and
// must be made safe for where they are shown.
type Report struct {
	Facts []Fact   `json:"facts"`
	Wrong []string `json:"wrong"` // what will not work, in sentences
	Mind  []string `json:"mind"`  // what works otherwise than one may think
	// EndsSession says that a sign-out here goes on to there, BackChannelLogout that the provider can tell of one there.
	EndsSession       bool `json:"ends_session"`
	BackChannelLogout bool `json:"back_channel_logout"`
}

// Fact is one thing that a provider is or can.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Checker is a provider that can be asked whether it will work. Nothing that a check sends is secret.
type Checker interface {
	// Check asks the provider, if there is something to ask without somebody signing in.
	Check(ctx context.Context) Report
}

var (
	_ Checker = (*OIDC)(nil)
	_ Checker = (*preset)(nil)
	_ Checker = (*brand)(nil)
)

func newReport() Report { return Report{Facts: []Fact{}, Wrong: []string{}, Mind: []string{}} }

func (r *Report) fact(name, value string) {
	r.Facts = append(r.Facts, Fact{name, cmp.Or(value, "none")})
}

func (r *Report) wrong(format string, args ...any) {
	r.Wrong = append(r.Wrong, fmt.Sprintf(format, args...))
}

func (r *Report) mind(format string, args ...any) {
	r.Mind = append(r.Mind, fmt.Sprintf(format, args...))
}

// announced is what of the metadata only a check reads (OpenID Connect Discovery section 3, RFC 8414 section 2).
type announced struct {
	ResponseTypes     []string `json:"response_types_supported"`
	ResponseModes     []string `json:"response_modes_supported"`
	PKCE              []string `json:"code_challenge_methods_supported"`
	BackChannelLogout bool     `json:"backchannel_logout_supported"`
}

// Check implements Checker.
func (p *OIDC) Check(ctx context.Context) Report {
	r := newReport()
	r.fact("issuer", p.config.Issuer)
	m, err := p.metadata(ctx)
	if err != nil {
		r.wrong("%s", p.whyNoMetadata(ctx, err))
		return r
	}
	r.fact("authorization endpoint", m.AuthorizationURL)
	r.fact("token endpoint", m.TokenURL)
	r.fact("userinfo endpoint", m.UserInfoURL)
	r.fact("revocation endpoint", m.RevocationURL)
	r.fact("introspection endpoint", m.IntrospectionURL)
	r.fact("end of session", m.EndSessionURL)
	r.fact("back-channel logout", yesOrNo(m.BackChannelLogout))
	r.fact("iss in answers", yesOrNo(m.IssInAuthorization))
	r.fact("PKCE", orNotAnnounced(m.PKCE))
	if len(m.Algs) == 0 {
		r.fact("id tokens signed with", orNotAnnounced(nil))
	} else {
		r.fact("id tokens signed with", strings.Join(accepted(m.Algs), ", "))
	}
	r.fact("scopes asked for", strings.Join(m.scopes(p.config), " "))
	r.EndsSession, r.BackChannelLogout = m.EndSessionURL != "", m.BackChannelLogout
	if len(m.misfits) > 0 {
		r.mind("Its metadata has members that are not what they have to be, and are not relied on: %s.", strings.Join(m.misfits, ", "))
	}
	if m.SignRequired {
		r.wrong("It takes signed authorization requests only (RFC 9101), which Keyturn does not make.")
	}
	if m.PushRequired {
		r.fact("pushed requests", "required, at "+orNotAnnounced([]string{m.PushURL}))
		if m.PushURL == "" {
			r.wrong("It takes pushed authorization requests only (RFC 9126), and does not say where.")
		}
	}
	p.checkClient(&r, m)
	p.checkGrants(&r, m)
	asked := m.scopes(p.config)
	if unasked := slices.DeleteFunc(slices.Clone(p.config.Scopes), func(scope string) bool { return slices.Contains(asked, scope) }); len(unasked) > 0 {
		r.mind("Not asked for, because it is not announced: %s. Name it in KEYTURN_SCOPES, or scopes in the file, to ask all the same.",
			strings.Join(unasked, " "))
	}
	p.checkKeys(ctx, &r, m)
	if m.RevocationURL == "" {
		r.mind("It announces no revocation: after a sign-out its tokens live on until they expire.")
	}
	if !r.EndsSession {
		r.mind("It announces no end of session: a sign-out here leaves people signed in there.")
	}
	return r
}

func (p *OIDC) checkClient(r *Report, m *metadata) {
	method, methods := authMethod(p.config, m.TokenAuthMethods), m.TokenAuthMethods
	if len(methods) == 0 {
		methods = []string{string(tokenendpoint.ClientSecretBasic)} // the default of the specification
	}
	r.fact("client authentication", fmt.Sprintf("%s; it takes %s", method, strings.Join(methods, ", ")))
	switch {
	case slices.Contains(methods, string(method)):
	case method == tokenendpoint.NoAuthentication:
		r.mind("No client secret is set, and it does not announce clients without one.")
	case slices.Equal(methods, []string{string(tokenendpoint.NoAuthentication)}):
		r.mind("It announces only clients that do not authenticate; Keyturn sends what is set nevertheless, by %s.", method)
	default:
		r.wrong("It does not take the client authentication %s, only %s.", method, strings.Join(methods, ", "))
	}
}

func (p *OIDC) checkGrants(r *Report, m *metadata) {
	grant := "refresh_token"
	if p.config.GrantType == auth.GrantClientCredentials {
		grant = string(auth.GrantClientCredentials)
	}
	r.fact("grant types", orNotAnnounced(m.GrantTypes))
	if leftOut(m.ResponseTypes, "code") {
		r.wrong("It does not announce the response type code, the only one that Keyturn uses.")
	}
	switch {
	case !leftOut(m.ResponseModes, "query"):
	case leftOut(m.ResponseModes, "form_post"):
		r.wrong("It announces neither the response mode query nor form_post, only %s.", strings.Join(m.ResponseModes, ", "))
	case p.config.authParams()["response_mode"] != "form_post":
		r.mind("It does not announce the response mode query, the default, which Keyturn asks for; " +
			"auth_params: {response_mode: form_post} in the file asks for one that it announces.")
	}
	if leftOut(m.GrantTypes, grant) {
		r.mind("It may not renew: it does not announce the grant type %s.", grant) // some that do leave it out
	}
	offline := slices.Contains(m.Scopes, oidc.ScopeOfflineAccess)
	r.fact("scope offline_access", yesOrNo(offline))
	if grant == "refresh_token" && !offline && len(p.config.authParams()) == 0 {
		r.mind("It announces no scope offline_access: it may give no refresh token, or only where its settings say so.")
	}
	if leftOut(m.PKCE, "S256") {
		r.wrong("It does not take PKCE with S256, only %s.", strings.Join(m.PKCE, ", "))
	} else if len(m.PKCE) == 0 {
		r.mind("It does not announce PKCE; Keyturn sends the challenge nevertheless, and the nonce protects the code.")
	}
}

func (p *OIDC) checkKeys(ctx context.Context, r *Report, m *metadata) {
	symmetric := slices.DeleteFunc(slices.Clone(m.Algs), func(alg string) bool { return !strings.HasPrefix(alg, "HS") })
	switch others := slices.DeleteFunc(slices.Clone(m.Algs), func(alg string) bool { return alg == "none" || strings.HasPrefix(alg, "HS") }); {
	case len(m.Algs) > 0 && len(others) == 0:
		r.wrong("It signs id tokens only with %s, which proves nothing: sign-ins will be refused.", strings.Join(m.Algs, ", "))
	case len(symmetric) > 0:
		r.mind("For some clients it signs id tokens with %s, which proves nothing: the client has to be registered there for %s.",
			strings.Join(symmetric, ", "), strings.Join(m.algs, " or "))
	}
	var keys struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := document(ctx, p.documents, m.JWKSURL, &keys); err != nil {
		r.wrong("Its keys could not be read at %s: %s.", m.JWKSURL, reason(err))
		return
	}
	usable := slices.DeleteFunc(understood(keys.Keys), func(key jose.JSONWebKey) bool {
		return !slices.ContainsFunc(m.signingAlgs(), func(alg string) bool { return unfit(&key, alg) == "" })
	})
	fact := fmt.Sprintf("%d at %s", len(keys.Keys), m.JWKSURL)
	if len(usable) != len(keys.Keys) {
		fact += fmt.Sprintf(", of which %d can be used", len(usable))
	}
	r.fact("keys", fact)
	switch {
	case keys.Keys == nil:
		r.wrong("What it answers at %s is no key set.", m.JWKSURL)
	case len(keys.Keys) == 0:
		r.mind("It publishes no key at the moment. Some make their first one when they need it; without one nobody can sign in.")
	case len(usable) == 0:
		r.wrong("None of its keys can be used for the signatures that it announces: no id token can be verified.")
	}
}

// whyNoMetadata says in words what discovery ran into.
func (p *OIDC) whyNoMetadata(ctx context.Context, err error) string {
	at := strings.TrimSuffix(p.config.Issuer, "/") + "/.well-known/openid-configuration"
	var told struct {
		Issuer string `json:"issuer"`
	}
	why := document(ctx, p.discovery.client, at, &told)
	switch {
	case errors.Is(why, errNothingThere) && p.speaksPlainOAuth(ctx):
		return fmt.Sprintf("It speaks OAuth 2.0 without OpenID Connect, of which there is nothing at %s: type oidc cannot sign people in with it.", at)
	case why != nil:
		return fmt.Sprintf("The metadata could not be read at %s: %s.", at, reason(why))
	case told.Issuer != p.config.Issuer:
		return fmt.Sprintf("The issuer in the metadata is %q, the settings say %q: they must be the same, a slash at the end included.",
			short(told.Issuer), p.config.Issuer)
	default:
		return fmt.Sprintf("The metadata cannot be used: %s.", short(err.Error()))
	}
}

// speaksPlainOAuth says whether the issuer has metadata of an authorization server (RFC 8414 section 3).
func (p *OIDC) speaksPlainOAuth(ctx context.Context) bool {
	at, err := url.Parse(p.config.Issuer)
	if err != nil {
		return false
	}
	at.Path = strings.TrimSuffix("/.well-known/oauth-authorization-server"+at.Path, "/")
	var told struct {
		Issuer string `json:"issuer"`
	}
	return document(ctx, p.discovery.client, at.String(), &told) == nil && told.Issuer == p.config.Issuer
}

var errNothingThere = errors.New("it answers with status 404")

// document reads a JSON document of the provider's.
func document(ctx context.Context, client *http.Client, at string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return fmt.Errorf("the address is unusable")
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if to, err := response.Location(); err == nil && response.StatusCode/100 == 3 {
		return fmt.Errorf("it answers with status %d and a redirect to %s, which is not followed", response.StatusCode, to)
	}
	if response.StatusCode == http.StatusNotFound {
		return errNothingThere
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers with status %d", response.StatusCode)
	}
	if json.NewDecoder(response.Body).Decode(into) != nil {
		return fmt.Errorf("it does not answer with JSON")
	}
	return nil
}

// Check implements Checker.
func (p *preset) Check(ctx context.Context) Report {
	r := p.OIDC.Check(ctx)
	if p.entry.logoutURL != nil {
		r.EndsSession = true
	}
	p.entry.known(&r, p.config)
	return r
}

// Check implements Checker: there is nothing to ask, so it says what the table of brands knows.
func (b *brand) Check(context.Context) Report {
	r := newReport()
	if b.entry.tokenURL != nil {
		r.fact("token endpoint", b.entry.tokenURL(b.config.Extra))
		r.fact("client authentication", string(b.config.ClientAuth))
		r.fact("PKCE", yesOrNo(b.entry.pkce))
		r.fact("scopes asked for", strings.Join(b.config.Scopes, " "))
	}
	if b.entry.revokeURL != nil {
		r.fact("revocation endpoint", b.entry.revokeURL(b.config.Extra))
	}
	b.entry.known(&r, b.config)
	if b.config.ClientSecret == "" && b.entry.public {
		r.mind("No client secret is set.")
	}
	if b.entry.issuer == nil {
		r.mind("It publishes no metadata: this is what Keyturn knows of it, not what it says.")
	}
	return r
}

// known adds what the table says.
func (e brandEntry) known(r *Report, config Config) {
	if missing := e.missingSecret(config); missing != nil {
		r.wrong("%s %s.", missing.Key, missing.Reason)
	}
	f := e.facts()
	r.fact("renews", string(f.renews))
	r.fact("rotates refresh tokens", string(f.rotates))
	if f.renews == no {
		r.mind("It gives no refresh token: a sign-in ends with its access token.")
	}
	if e.remark != "" {
		r.mind("About %s: %s.", e.label, e.remark)
	}
}

func yesOrNo(b bool) string {
	if b {
		return string(yes)
	}
	return string(no)
}

func orNotAnnounced(values []string) string {
	return cmp.Or(strings.Join(values, ", "), "not announced")
}
