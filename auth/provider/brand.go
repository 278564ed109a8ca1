package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/markbates/goth"
	"golang.org/x/oauth2"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// brand is one of goth's providers: goth signs people in, our own token endpoint client renews. It is safe for concurrent
// use.
type brand struct {
	goth.Provider
	config  Config
	options Options
	entry   brandEntry
	renewal *tokenendpoint.Client
}

var _ Provider = (*brand)(nil)

func newBrand(config Config, options Options) (Provider, error) {
	entry, ok := brands()[config.Type]
	if !ok {
		return nil, fmt.Errorf("type %q is not known; allowed: oidc, %s", config.Type, strings.Join(slices.Sorted(maps.Keys(brands())), ", "))
	}
	for name := range config.Extra {
		if name != entry.needs {
			return nil, fmt.Errorf("type %q has no setting %q", config.Type, name)
		}
	}
	if entry.needs != "" && config.Extra[entry.needs] == "" {
		return nil, fmt.Errorf("type %q needs the setting %q", config.Type, entry.needs)
	}
	if err := config.checkParams(); err != nil {
		return nil, err
	}
	if config.Label == "" {
		config.Label = entry.label
	}
	if len(config.Scopes) == 0 {
		config.Scopes = entry.scopes
	}
	method := entry.auth
	if config.ClientAuth != "" {
		method = config.ClientAuth
	}
	b := &brand{config: config, options: options, entry: entry, renewal: &tokenendpoint.Client{
		HTTP: backChannel(options, 0), TokenURL: entry.tokenURL(config.Extra[entry.needs]), ClientID: config.ClientID,
		ClientSecret: config.ClientSecret, AuthMethod: method, Now: options.Now,
	}}
	b.Provider = b.make(backChannel(options, options.RenewTimeout))
	return b, nil
}

func (b *brand) make(client *http.Client) goth.Provider {
	p := b.entry.make(b.config, client)
	p.SetName(b.config.Name)
	return p
}

// brandSession is goth's session of a brand, with the URL that we made of goth's.
type brandSession struct {
	AuthURL string `json:"auth_url"`
	Inner   string `json:"inner"`
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
	done, err := b.Finish(context.Background(), s, url.Values{"code": {params.Get("code")}, "state": {params.Get("state")}})
	return done.Answer.Access.Reveal(), err
}

// UnmarshalSession implements goth.Provider.
func (b *brand) UnmarshalSession(text string) (goth.Session, error) {
	s := &brandSession{}
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, errors.New("unmarshal session: not what Marshal wrote")
	}
	return s, nil
}

// Label implements Provider.
func (b *brand) Label() string { return b.config.Label }

// Type implements Provider.
func (b *brand) Type() string { return b.config.Type }

// Policy implements auth.Provider.
func (b *brand) Policy() auth.Policy { return b.config.Policy() }

// OnUnknown implements auth.Provider.
func (b *brand) OnUnknown() auth.OnUnknown { return b.config.OnUnknown }

// Begin implements Provider.
func (b *brand) Begin(_ context.Context, state, prompt string) (goth.Session, error) {
	inner, err := b.BeginAuth(state)
	if err != nil {
		return nil, fmt.Errorf("begin sign-in: %w", err)
	}
	text, err := inner.GetAuthURL()
	if err != nil {
		return nil, fmt.Errorf("begin sign-in: %w", err)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("begin sign-in: the provider's URL is unusable")
	}
	query := u.Query()
	set := maps.Clone(b.entry.params)
	if set == nil {
		set = map[string]string{}
	}
	maps.Copy(set, b.config.AuthParams)
	set["prompt"], set["audience"] = orElse(prompt, set["prompt"]), orElse(b.config.Audience, set["audience"])
	for name, value := range set {
		if value != "" {
			query.Set(name, value)
		}
	}
	if len(b.config.Resource) > 0 {
		query["resource"] = b.config.Resource
	}
	u.RawQuery = query.Encode()
	return &brandSession{AuthURL: u.String(), Inner: inner.Marshal()}, nil
}

func orElse(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}

// Finish implements Provider. goth keeps of the tokens only what it knows; the answer itself is read as it passes by.
func (b *brand) Finish(ctx context.Context, session goth.Session, callback url.Values) (auth.SignedIn, error) {
	s, ok := session.(*brandSession)
	if !ok {
		return auth.SignedIn{}, errors.New("finish sign-in: session of another provider")
	}
	if code := callback.Get("error"); code != "" {
		return auth.SignedIn{}, &SignInError{Code: code, Detail: callback.Get("error_description")}
	}
	if callback.Get("code") == "" {
		return auth.SignedIn{}, signInError("no_code", "the answer has neither a code nor an error")
	}
	client := backChannel(b.options, b.options.RenewTimeout)
	asked := tokenRequests{next: client.Transport, tokenURL: b.renewal.TokenURL, config: b.config}
	seen := &tokenAnswers{next: asked, tokenURL: b.renewal.TokenURL}
	client.Transport = seen
	type finished struct {
		user goth.User
		err  error
	}
	began, done := b.options.Now(), make(chan finished, 1)
	go func() {
		user, err := fetchUser(b.make(client), s.Inner, url.Values{"code": callback["code"], "state": callback["state"]})
		done <- finished{user, err}
	}()
	var f finished
	select {
	case f = <-done:
	case <-ctx.Done(): // goth takes no context; its calls end by the client's time-out
		return auth.SignedIn{}, signInError("code_exchange_failed", "no answer in time")
	}
	switch {
	case f.err != nil:
		return auth.SignedIn{}, signInError("code_exchange_failed", "%s", errorCode(f.err))
	case f.user.UserID == "":
		return auth.SignedIn{}, signInError("no_subject", "the provider did not say who signed in")
	}
	answer, err := seen.answer(b.options.Now())
	if err != nil {
		return auth.SignedIn{}, signInError("code_exchange_failed", "%v", err)
	}
	answer.RequestedAt, answer.ID = began, "" // goth does not verify id tokens
	name := f.user.Name
	if name == "" {
		name = f.user.NickName
	}
	return auth.SignedIn{Answer: answer, Identity: auth.Identity{
		Provider: b.config.Name, Subject: f.user.UserID, Name: name, Email: f.user.Email, Picture: f.user.AvatarURL, Claims: f.user.RawData,
	}}, nil
}

// fetchUser is goth's half of a sign-in. Some of its providers panic on answers that they do not expect.
func fetchUser(p goth.Provider, inner string, params url.Values) (user goth.User, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the answer could not be read")
		}
	}()
	s, err := p.UnmarshalSession(inner)
	if err != nil {
		return goth.User{}, err
	}
	if _, err := s.Authorize(p, params); err != nil {
		return goth.User{}, err
	}
	return p.FetchUser(s)
}

// errorCode is what of an error of goth's may be shown: its text can hold whole answers, tokens included.
func errorCode(err error) string {
	var refusal *oauth2.RetrieveError
	if errors.As(err, &refusal) && refusal.ErrorCode != "" {
		return refusal.ErrorCode
	}
	return "the provider's answer was not what it should be"
}

// tokenAnswers reads the token endpoint's answers of one sign-in as they pass by.
type tokenAnswers struct {
	next     http.RoundTripper
	tokenURL string

	mu     sync.Mutex
	status int
	header http.Header
	body   []byte
}

// RoundTrip implements http.RoundTripper.
func (t *tokenAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := (limited{t.next}).RoundTrip(r)
	if err != nil || r.Method != http.MethodPost || !strings.HasPrefix(r.URL.String(), t.tokenURL) {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, errors.Join(err, response.Body.Close())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status, t.header, t.body = response.StatusCode, response.Header, body
	rest := response.Body
	response.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(body), rest}
	return response, nil
}

func (t *tokenAnswers) answer(now time.Time) (auth.Answer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return tokenendpoint.Parse(t.status, t.header, t.body, now)
}

// WantsConsent implements Provider: the table has what a brand needs.
func (b *brand) WantsConsent(context.Context) bool { return false }

// Renew implements auth.Provider.
func (b *brand) Renew(ctx context.Context, tokens auth.TokenSet, withScope bool) (auth.Answer, error) {
	answer, err := b.renewal.Exchange(ctx, renewalForm(b.config, tokens, withScope))
	answer.ID = ""
	return answer, err
}

// VerifyIDToken implements auth.Provider. Renew lets no id token through to it.
func (b *brand) VerifyIDToken(context.Context, *auth.Grant, auth.Secret) (map[string]any, error) {
	return nil, errors.New("id tokens of this provider are not verified")
}

// Revoke implements auth.Provider.
func (b *brand) Revoke(ctx context.Context, tokens auth.TokenSet) error {
	if b.entry.revokeURL == nil {
		return nil
	}
	return revoke(ctx, b.renewal, b.entry.revokeURL(b.config.Extra[b.entry.needs]), tokens)
}

// EndSessionURL implements Provider; these providers have no standard one.
func (b *brand) EndSessionURL(context.Context, auth.Secret, string, string) string { return "" }

// Origins implements Provider.
func (b *brand) Origins() []string { return nil }
