package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/markbates/goth"
	"golang.org/x/oauth2"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// brand is one of goth's providers: goth begins a sign-in and says who signed in, our own token endpoint client exchanges
// codes and refresh tokens. It is safe for concurrent use.
type brand struct {
	config  Config
	options Options
	entry   brandEntry
	http    *http.Client             // its connections serve all calls
	speaks  *tokenendpoint.Protocols // over them
}

var (
	_ Provider  = (*brand)(nil)
	_ OwnAnswer = (*brand)(nil)
)

func newBrand(config Config, options Options) (Provider, error) {
	entry, err := brandFor(config)
	if err != nil {
		return nil, err
	}
	config.Label = cmp.Or(config.Label, entry.label)
	if len(config.Scopes) == 0 {
		config.Scopes, config.narrow = entry.scopes, true
	}
	if config.AssumedLifetime == 0 {
		config.AssumedLifetime = entry.assumed
	}
	if issuer := entry.issuerFor(config); issuer != "" {
		return newPreset(config, options, entry, issuer)
	}
	switch {
	case config.ClientAuth != "":
	case config.ClientSecret == "":
		config.ClientAuth = tokenendpoint.NoAuthentication
	default:
		config.ClientAuth = entry.auth
	}
	return &brand{config: config, options: options, entry: entry, http: backChannel(options, 0), speaks: &tokenendpoint.Protocols{}}, nil
}

// goth is goth's provider with our HTTP client. It keeps state of its own, so each sign-in has one to itself.
func (b *brand) goth(client *http.Client, callbackURL string) goth.Provider {
	config := b.config
	config.CallbackURL = callbackURL
	p := b.entry.make(config)
	p.SetName(config.Name)
	return withClient(p, client)
}

// client is our client of one of the brand's endpoints, for one call.
func (b *brand) client(url func(extras) string, note func(members map[string]any)) *tokenendpoint.Client {
	client := *b.http
	client.Transport = &translator{dialect: b.entry.dialect, next: client.Transport, note: note}
	return &tokenendpoint.Client{
		HTTP: &client, Protocols: b.speaks, TokenURL: url(b.config.Extra), ClientID: b.config.ClientID, ClientSecret: b.config.ClientSecret,
		AuthMethod: b.config.ClientAuth, Now: b.options.Now,
	}
}

// brandSession is goth's session of a brand, with the URL that we made of goth's.
type brandSession struct {
	AuthURL  string `json:"auth_url"`
	Inner    string `json:"inner"`
	Verifier string `json:"verifier,omitempty"` // of PKCE

	finished *auth.SignedIn
}

// GetAuthURL implements goth.Session.
func (s *brandSession) GetAuthURL() (string, error) { return s.AuthURL, nil }

// Marshal implements goth.Session.
func (s *brandSession) Marshal() string {
	text, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(text)
}

// Authorize implements goth.Session.
func (s *brandSession) Authorize(p goth.Provider, params goth.Params) (string, error) {
	b, ok := p.(*brand)
	if !ok {
		return "", errors.New("authorize: session of another provider")
	}
	callback, ok := params.(url.Values)
	if !ok {
		callback = url.Values{}
		for _, name := range []string{"code", "state", "error", b.entry.proof} {
			callback.Set(name, params.Get(name))
		}
	}
	done, err := b.Finish(context.Background(), s, callback)
	if err != nil {
		return "", err
	}
	s.finished = &done
	return done.Answer.Access.Reveal(), nil
}

// Name implements goth.Provider.
func (b *brand) Name() string { return b.config.Name }

// SetName implements goth.Provider and does nothing, as OIDC's.
func (b *brand) SetName(string) {}

// Debug implements goth.Provider and does nothing.
func (b *brand) Debug(bool) {}

// BeginAuth implements goth.Provider: Begin, without a context.
func (b *brand) BeginAuth(state string) (goth.Session, error) {
	return b.Begin(context.Background(), state, "", "")
}

// UnmarshalSession implements goth.Provider.
func (b *brand) UnmarshalSession(text string) (goth.Session, error) {
	s := &brandSession{}
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, errors.New("unmarshal session: not what Marshal wrote")
	}
	return s, nil
}

// FetchUser implements goth.Provider: who signed in, once the session is authorized.
func (b *brand) FetchUser(session goth.Session) (goth.User, error) {
	s, ok := session.(*brandSession)
	if !ok {
		return goth.User{}, errors.New("fetch user: session of another provider")
	}
	return gothUser(b.config, s.finished)
}

// RefreshTokenAvailable implements goth.Provider.
func (b *brand) RefreshTokenAvailable() bool { return b.entry.renews != no }

// RefreshToken implements goth.Provider.
func (b *brand) RefreshToken(refreshToken string) (*oauth2.Token, error) {
	return gothToken(b, b.config, b.options, refreshToken)
}

// Label implements Provider.
func (b *brand) Label() string { return b.config.Label }

// Type implements Provider.
func (b *brand) Type() string { return b.config.Type }

// Policy implements auth.Provider.
func (b *brand) Policy() auth.Policy { return b.config.Policy() }

// RevokesConsent implements auth.Provider.
func (b *brand) RevokesConsent() bool { return b.entry.withdraws }

// OnUnknown implements auth.Provider.
func (b *brand) OnUnknown() auth.OnUnknown { return b.config.OnUnknown }

// Begin implements Provider. Some of goth's providers make a call here (OAuth 1.0 asks for a request token).
func (b *brand) Begin(ctx context.Context, state, prompt, loginHint string) (goth.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, b.options.RenewTimeout)
	defer cancel()
	callbackURL := b.config.CallbackURL
	if b.entry.proof != "" { // these protocols know no state: it travels in the callback's URL
		callbackURL += "?" + url.Values{"state": {state}}.Encode()
	}
	s, err := inTime(ctx, b, callbackURL, func(p goth.Provider) (*brandSession, error) {
		inner, err := p.BeginAuth(state)
		if err != nil {
			return nil, err
		}
		target, err := inner.GetAuthURL()
		return &brandSession{Inner: inner.Marshal(), AuthURL: target}, err
	})
	if err != nil {
		return nil, signInError(auth.CodeUnreachable, "the provider could not be asked to begin: %s", errorCode(err))
	}
	u, err := url.Parse(s.AuthURL)
	if err != nil {
		return nil, errors.New("begin sign-in: the provider's URL is unusable")
	}
	encrypt(u)
	query := u.Query()
	for name, value := range b.params(prompt, loginHint) {
		if value != "" {
			query.Set(name, value)
		}
	}
	if len(b.config.Resource) > 0 {
		query["resource"] = b.config.Resource
	}
	if b.entry.pkce {
		s.Verifier = oauth2.GenerateVerifier()
		query.Set("code_challenge", oauth2.S256ChallengeFromVerifier(s.Verifier))
		query.Set("code_challenge_method", "S256")
	}
	u.RawQuery = query.Encode()
	s.AuthURL = u.String()
	return s, nil
}

// params are what the authorization request has beyond goth's.
func (b *brand) params(prompt, loginHint string) map[string]string {
	set := map[string]string{}
	maps.Copy(set, b.entry.params)
	maps.Copy(set, b.config.AuthParams)
	set["prompt"], set["audience"] = cmp.Or(prompt, set["prompt"]), cmp.Or(b.config.Audience, set["audience"])
	set["login_hint"] = cmp.Or(loginHint, set["login_hint"])
	if b.entry.scoped {
		set["scope"] = strings.Join(b.config.Scopes, " ")
	}
	return set
}

// Answers implements OwnAnswer.
func (b *brand) Answers(parameter string) bool {
	return b.entry.answers != nil && b.entry.answers(parameter)
}

// Finish implements Provider.
func (b *brand) Finish(ctx context.Context, session goth.Session, callback url.Values) (auth.SignedIn, error) {
	s, ok := session.(*brandSession)
	if !ok {
		return auth.SignedIn{}, errors.New("finish sign-in: session of another provider")
	}
	if callback.Get("error") != "" {
		return auth.SignedIn{}, errorAnswer(callback, b.config.Scopes)
	}
	if callback.Has("denied") || callback.Get("openid.mode") == "cancel" { // as OAuth 1.0a and OpenID 2.0 say it
		return auth.SignedIn{}, &SignInError{Code: "access_denied"}
	}
	if callback.Get(cmp.Or(b.entry.proof, "code")) == "" {
		return auth.SignedIn{}, signInError(CodeNoCode, "the answer has neither a code nor an error")
	}
	if b.entry.check != nil {
		if err := b.entry.check(b.config, callback); err != nil {
			return auth.SignedIn{}, signInError(CodeInvalidCallback, "%v", err)
		}
	}
	if b.entry.tokenURL == nil {
		return b.finishByGoth(ctx, s, callback)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*b.options.RenewTimeout)
	defer cancel()
	var members map[string]any
	client := b.client(b.entry.tokenURL, func(seen map[string]any) { members = seen })
	form := b.config.tokenForm(url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Get("code")}, "redirect_uri": {b.config.CallbackURL},
	})
	if s.Verifier != "" {
		form.Set("code_verifier", s.Verifier)
	}
	answer, err := client.Exchange(ctx, form)
	if err != nil {
		return auth.SignedIn{}, exchangeError(err)
	}
	signedIn, err := b.identify(ctx, s, members, answer)
	// While it is not known who it is, they may live on here with an earlier grant: to many brands the two are one.
	if err != nil && !isProfileFailure(err) {
		err = unused(answer, err)
	}
	return signedIn, err
}

func isProfileFailure(err error) bool {
	var failure *SignInError
	return errors.As(err, &failure) && failure.Code == CodeProfileFailed
}

// identify says who signed in, by a token answer with the given members.
func (b *brand) identify(ctx context.Context, s *brandSession, members map[string]any, answer auth.Answer) (auth.SignedIn, error) {
	answer.Scope = cmp.Or(answer.Scope, strings.Join(b.config.Scopes, " ")) // RFC 6749 section 5.1
	inner, err := b.withTokens(s.Inner, members)
	if err != nil {
		return auth.SignedIn{}, err
	}
	user, err := b.user(ctx, inner, nil)
	if err != nil {
		return auth.SignedIn{}, signInError(CodeProfileFailed, "who signed in could not be read: %s", errorCode(err))
	}
	if user.Email == "" {
		user.Email = textOf(members, "email") // VK says it only here
	}
	return b.signedIn(user, answer)
}

// withTokens puts the members of a token answer into goth's session, as if goth had made the exchange.
func (b *brand) withTokens(inner string, members map[string]any) (string, error) {
	fields := map[string]any{}
	if err := json.Unmarshal([]byte(inner), &fields); err != nil {
		return "", errors.New("finish sign-in: the session is not what Marshal wrote")
	}
	fields["AccessToken"] = members["access_token"]
	for field, member := range b.entry.session {
		fields[field] = members[member]
	}
	text, err := json.Marshal(fields)
	return string(text), err
}

// finishByGoth leaves the exchange to goth: there is no token endpoint to renew at.
func (b *brand) finishByGoth(ctx context.Context, s *brandSession, callback url.Values) (auth.SignedIn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*b.options.RenewTimeout)
	defer cancel()
	began := b.options.Now()
	user, err := b.user(ctx, s.Inner, callback)
	if err != nil {
		return auth.SignedIn{}, signInError(CodeExchangeFailed, "%s", errorCode(err))
	}
	answer := auth.Answer{Access: auth.Secret(user.AccessToken), RequestedAt: began}
	if b.entry.noToken {
		answer.Access = auth.NoToken
	}
	return b.signedIn(user, answer)
}

// user is who signed in, by goth's session, after an exchange if there is a callback.
func (b *brand) user(ctx context.Context, inner string, callback url.Values) (goth.User, error) {
	return inTime(ctx, b, b.config.CallbackURL, func(p goth.Provider) (goth.User, error) {
		session, err := p.UnmarshalSession(inner)
		if err != nil {
			return goth.User{}, err
		}
		if callback != nil {
			if _, err := session.Authorize(p, callback); err != nil {
				return goth.User{}, err
			}
		}
		return p.FetchUser(session)
	})
}

// inTime lets goth's provider do something. goth takes no context: when the time is over its call is left to end by the
// client's time-out. Some of its providers panic on answers that they do not expect.
func inTime[T any](ctx context.Context, b *brand, callbackURL string, do func(p goth.Provider) (T, error)) (T, error) {
	client := *b.http
	client.Timeout = b.options.RenewTimeout
	client.Transport = profileCalls{next: limited{client.Transport}, bearer: b.entry.bearer}
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() {
			if recover() != nil {
				done <- outcome{err: errUnexpected}
			}
		}()
		value, err := do(b.goth(&client, callbackURL))
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return *new(T), context.DeadlineExceeded
	}
}
