package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/markbates/goth"
	"golang.org/x/oauth2"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// OIDC is the generic OpenID provider: authorization code flow with PKCE S256, state and nonce, full verification of id
// tokens, and renewals through our own token endpoint client. It is safe for concurrent use.
type OIDC struct {
	config    Config
	options   Options
	discovery *discovery
	documents *http.Client             // for discovery, keys and userinfo
	tokens    *http.Client             // for the token endpoint
	speaks    *tokenendpoint.Protocols // through tokens

	revocationURL string // where the metadata announces none
}

var _ Provider = (*OIDC)(nil)

// NewOIDC returns the provider. It makes no network call.
func NewOIDC(config Config, options Options) (*OIDC, error) {
	if err := config.checkParams(); err != nil {
		return nil, err
	}
	if len(config.Scopes) == 0 {
		config.Scopes, config.narrow = DefaultScopes(), true
	}
	guard := newGuard(config.Issuer)
	documents, tokens := guard.client(options, discoveryTimeout), guard.client(options, 0)
	documents.Transport = limited{documents.Transport}
	return &OIDC{
		config: config, options: options, documents: documents, tokens: tokens, speaks: &tokenendpoint.Protocols{},
		discovery: &discovery{issuer: config.Issuer, client: redirectedOnce(documents), now: options.Now, log: options.Log},
	}, nil
}

// Label implements Provider.
func (p *OIDC) Label() string { return p.config.Label }

// Type implements Provider.
func (p *OIDC) Type() string { return p.config.Type }

// Policy implements auth.Provider.
func (p *OIDC) Policy() auth.Policy { return p.config.Policy() }

// RevokesConsent implements auth.Provider.
func (p *OIDC) RevokesConsent() bool { return p.config.Issuer == googleIssuer }

// OnUnknown implements auth.Provider.
func (p *OIDC) OnUnknown() auth.OnUnknown { return p.config.OnUnknown }

// metadata returns what discovery told, ready for use.
func (p *OIDC) metadata(ctx context.Context) (*metadata, error) {
	m, err := p.discovery.get(ctx)
	if err != nil {
		return nil, err
	}
	return p.ready(m), nil
}

// endpoints is the metadata for a call of one of them; its error is an *auth.ProviderError.
func (p *OIDC) endpoints(ctx context.Context) (*metadata, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, &auth.ProviderError{Failure: auth.Failure{Code: discoveryCode(err), Detail: short(err.Error())}}
	}
	return m, nil
}

// ready makes what checks signatures, unless that is there.
func (p *OIDC) ready(m *metadata) *metadata {
	p.discovery.mu.Lock()
	defer p.discovery.mu.Unlock()
	if m.verifier == nil {
		if m.keys == nil {
			m.keys = newKeys(m.JWKSURL, p.documents, p.options.Now)
		}
		m.RevocationURL = cmp.Or(m.RevocationURL, p.revocationURL)
		config := &oidc.Config{ClientID: p.config.ClientID, SupportedSigningAlgs: m.algs, Now: p.options.Now, SkipIssuerCheck: true}
		m.verifier = oidc.NewVerifier(m.Issuer, m.keys, config)
		m.logoutVerifier = oidc.NewVerifier(m.Issuer, logoutKeys{m.keys}, config)
	}
	return m
}

// proven makes a check of a signature. What fails for want of a key or of an algorithm may fail because the provider has changed where its
// keys are, or how it signs: the metadata is asked for again, and if it says otherwise now, the check is made once more. A sign-in gets
// no second try at this, since its code is spent. The result is the metadata that the last check was made with.
func (p *OIDC) proven(ctx context.Context, m *metadata, use keyUse, check func(m *metadata, use *keyUse) error) (*metadata, error) {
	first := use
	err := check(m, &first)
	if use.known || first.unavailable == nil && !first.unfit {
		return m, err
	}
	newer := p.discovery.newer(ctx, m, use.stranger)
	if newer.JWKSURL == m.JWKSURL && slices.Equal(newer.algs, m.algs) {
		return m, err
	}
	return newer, check(p.ready(newer), &use)
}

// Begin implements Provider.
func (p *OIDC) Begin(ctx context.Context, state, prompt, loginHint string) (goth.Session, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, signInError(discoveryCode(err), "%v", err)
	}
	session := &Session{Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier()}
	config := oauth2.Config{
		ClientID: p.config.ClientID, RedirectURL: p.config.CallbackURL, Scopes: m.scopes(p.config),
		Endpoint: oauth2.Endpoint{AuthURL: m.AuthorizationURL, TokenURL: m.TokenURL},
	}
	params := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(session.Verifier), oidc.Nonce(session.Nonce)}
	if p.config.Audience != "" {
		params = append(params, oauth2.SetAuthURLParam("audience", p.config.Audience))
	}
	extra := p.config.authParams()
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		params = append(params, oauth2.SetAuthURLParam(name, extra[name]))
	}
	for name, value := range map[string]string{"prompt": prompt, "login_hint": loginHint} {
		if value != "" {
			params = append(params, oauth2.SetAuthURLParam(name, value))
		}
	}
	if session.AuthURL, err = p.config.withResource(config.AuthCodeURL(state, params...)); err != nil {
		return nil, errAuthorizationURL()
	}
	if session.AuthURL, err = p.pushed(ctx, m, session.AuthURL); err != nil {
		return nil, err
	}
	return session, nil
}

func errAuthorizationURL() error {
	return signInError(auth.CodeMetadata, "the authorization endpoint's URL is unusable")
}

// issuer is the issuer as it is configured.
func (p *OIDC) issuer() string { return p.config.Issuer }

// issued implements origin. Realms and tenants of one host are issuers of their own.
func (p *OIDC) issued(issuer string) bool { return issuer == p.config.Issuer }

// Finish implements Provider.
func (p *OIDC) Finish(ctx context.Context, session goth.Session, callback url.Values) (auth.SignedIn, error) {
	s, ok := session.(*Session)
	if !ok {
		return auth.SignedIn{}, fmt.Errorf("finish sign-in: session of another provider")
	}
	m, err := p.metadata(ctx)
	if err != nil {
		return auth.SignedIn{}, signInError(discoveryCode(err), "%v", err)
	}
	// RFC 9207 section 2.4: a wrong issuer, or none where one is announced, is a mix-up.
	if iss, present := callback.Get("iss"), callback.Has("iss"); present && iss != m.Issuer || !present && m.IssInAuthorization {
		return auth.SignedIn{}, signInError(CodeIssuerMismatch, "the answer's iss is not the provider's")
	}
	if callback.Get("error") != "" {
		return auth.SignedIn{}, errorAnswer(callback, m.scopes(p.config))
	}
	code := callback.Get("code")
	if code == "" {
		return auth.SignedIn{}, signInError(CodeNoCode, "the answer has neither a code nor an error")
	}
	answer, err := p.exchange(ctx, m, p.config.tokenForm(url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {p.config.CallbackURL}, "code_verifier": {s.Verifier},
	}))
	if err != nil {
		failed := exchangeError(err)
		if p.mayNotDecode(m, err) {
			failed.Detail = "the client's id or secret has characters that Basic authentication encodes (RFC 6749 section 2.3.1), " +
				"which the provider may not decode: try a secret of letters and digits; " + failed.Detail // what is last may be cut off
		}
		return auth.SignedIn{}, failed
	}
	answer.Scope = cmp.Or(answer.Scope, strings.Join(m.scopes(p.config), " ")) // RFC 6749 section 5.1: left out if as asked for
	identity, err := p.identify(ctx, m, s, answer)
	if err != nil {
		return auth.SignedIn{}, unused(answer, err)
	}
	return auth.SignedIn{Identity: identity, Answer: answer, IDToken: answer.ID}, nil
}

// identify says who signed in, once everything about the answer is right.
func (p *OIDC) identify(ctx context.Context, m *metadata, s *Session, answer auth.Answer) (auth.Identity, error) {
	switch {
	case answer.ID == "" && answer.BrokeOff:
		return auth.Identity{}, exchangeError(&auth.ProviderError{Delivery: auth.DeliveryAnswered, Failure: auth.Failure{Code: auth.CodeCutOff}})
	case answer.ID == "":
		return auth.Identity{}, signInError(CodeNoIDToken, "the token endpoint gave no id token; is the scope openid asked for?")
	}
	waiting, cancel := context.WithTimeout(ctx, p.options.RenewTimeout)
	defer cancel()
	var v verified
	m, err := p.proven(waiting, m, keyUse{}, func(m *metadata, use *keyUse) (err error) {
		v, err = m.verify(waiting, p.config, answer, p.options.Now(), use)
		return err
	})
	if errors.Is(err, auth.ErrKeysUnavailable) {
		return auth.Identity{}, signInError(auth.CodeKeysUnavailable, "%v", err)
	}
	if err == nil {
		err = v.isOf(s, m.Issuer, p.config, p.options.Now())
	}
	if err != nil {
		return auth.Identity{}, signInError(CodeInvalidIDToken, "%v", err)
	}
	claims, err := p.withUserInfo(ctx, m, v, answer)
	if err != nil {
		return auth.Identity{}, err
	}
	claims = auth.WithoutSecrets(claims, answer.Secrets()...)
	identity := auth.Identity{
		Provider: p.config.Name, Issuer: v.token.Issuer, Subject: v.token.Subject, Name: textOf(claims, "name"),
		Email: textOf(claims, "email"), Picture: textOf(claims, "picture"), Claims: claims,
	}
	if identity.Name == "" {
		identity.Name = textOf(claims, "preferred_username")
	}
	return identity, nil
}

// exchange presents the code.
func (p *OIDC) exchange(ctx context.Context, m *metadata, form url.Values) (auth.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.options.RenewTimeout)
	defer cancel()
	answer, method, err := asEither(p, m, func(client *tokenendpoint.Client) (auth.Answer, error) {
		answer, err := client.Exchange(ctx, form)
		if moved(err) {
			p.discovery.doubt(ctx)
		}
		return answer, err
	})
	answer.ClientAuth = method
	return answer, err
}

// WantsConsent implements Provider.
func (p *OIDC) WantsConsent(ctx context.Context) bool {
	m, err := p.metadata(ctx)
	return err == nil && p.config.GrantType != auth.GrantClientCredentials && p.config.authParams()["prompt"] == "" &&
		slices.Contains(m.scopes(p.config), oidc.ScopeOfflineAccess) &&
		!leftOut(m.GrantTypes, string(auth.GrantRefreshToken)) && !leftOut(m.Prompts, "consent")
}

// Renew implements auth.Provider.
func (p *OIDC) Renew(ctx context.Context, tokens auth.TokenSet, withScope bool) (auth.Answer, error) {
	m, err := p.endpoints(ctx)
	if err != nil {
		return auth.Answer{}, err
	}
	form := renewalForm(p.config, tokens, withScope)
	answer, err := p.client(m, tokens.ClientAuth).Exchange(ctx, form, tokens.Secrets()...)
	if moved(err) {
		p.discovery.doubt(ctx)
	}
	return asAskedFor(form, answer), err
}

// asAskedFor fills in what a renewal's answer leaves out of the scope: it is what was asked for (RFC 6749 section 5.1). If that was none,
// only a refresh token says what it is.
func asAskedFor(form url.Values, answer auth.Answer) auth.Answer {
	answer.Scope = cmp.Or(answer.Scope, form.Get("scope"))
	if answer.Anew = form.Get("grant_type") == string(auth.GrantClientCredentials); answer.Anew {
		answer.ID = "" // of the client, and nobody's who is signed in
	}
	return answer
}

// renewalForm is the token request of a renewal. With a refresh token no scope is sent: that means the same scope
// (RFC 6749 section 6), and a list that the provider wrote in its own way could only be refused.
func renewalForm(config Config, tokens auth.TokenSet, withScope bool) url.Values {
	if config.GrantType != auth.GrantClientCredentials {
		return config.tokenForm(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh.Reveal()}})
	}
	form := url.Values{"grant_type": {string(auth.GrantClientCredentials)}}
	if config.Audience != "" {
		form.Set("audience", config.Audience)
	}
	if scope := apiScope(config.Scopes); withScope && scope != "" {
		form.Set("scope", scope)
	}
	return config.tokenForm(form)
}

// apiScope leaves out the scopes that ask for claims about a person or for a refresh token: a client's own token has neither.
func apiScope(scopes []string) string {
	personal := []string{"openid", "profile", "email", "address", "phone", "offline_access"}
	return strings.Join(slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return slices.Contains(personal, s) }), " ")
}

// Revoke implements auth.Provider. The refresh token goes first, since that ends the grant (RFC 7009 section 2.1); the access
// token in its stead where the endpoint does not take refresh tokens, which remains an error.
func (p *OIDC) Revoke(ctx context.Context, tokens auth.TokenSet) error {
	m, err := p.metadata(ctx)
	if err != nil {
		return err
	}
	if m.RevocationURL == "" {
		return nil
	}
	return revoke(ctx, p.revoker(m, tokens), m.RevocationURL, tokens)
}

func revoke(ctx context.Context, client *tokenendpoint.Client, endpoint string, tokens auth.TokenSet) error {
	var kept error
	if tokens.Refresh != "" {
		kept = client.Revoke(ctx, endpoint, tokens.Refresh, "refresh_token", tokens.Secrets()...)
		var refusal *auth.ProviderError
		if !errors.As(kept, &refusal) || refusal.Failure.Code != tokenendpoint.CodeUnsupportedTokenType {
			return kept
		}
	}
	if tokens.Access != "" {
		if err := client.Revoke(ctx, endpoint, tokens.Access, "access_token", tokens.Secrets()...); err != nil {
			return err
		}
	}
	return kept
}

// maxHint bounds an id token in a URL, in bytes: servers refuse request lines of more than 8 KB, and the provider knows its person by the
// session that it has, too.
const maxHint = 4 << 10

// EndSessionURL implements Provider (OpenID Connect RP-Initiated Logout section 2).
func (p *OIDC) EndSessionURL(ctx context.Context, idToken auth.Secret, returnTo, state string) string {
	m, err := p.metadata(ctx)
	if err != nil || m.EndSessionURL == "" {
		return ""
	}
	u, err := url.Parse(m.EndSessionURL)
	if err != nil {
		return ""
	}
	query := u.Query()
	query.Set("client_id", p.config.ClientID)
	query.Set("post_logout_redirect_uri", returnTo)
	query.Set("state", state)
	if idToken != "" && len(idToken) <= maxHint {
		query.Set("id_token_hint", idToken.Reveal())
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// Origins implements Provider.
func (p *OIDC) Origins(ctx context.Context) []string {
	if m := p.discovery.soon(ctx); m != nil {
		return m.origins
	}
	return originsOf(p.config.Issuer)
}

// LogValue implements slog.LogValuer.
func (p *OIDC) LogValue() slog.Value { return slog.StringValue(p.config.Name) }

// short is somebody else's words as far as they are kept.
func short(text string) string { return auth.Foreign(text, 200) }
