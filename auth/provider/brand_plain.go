package provider

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/markbates/goth"
	"golang.org/x/oauth2"
)

// plain is a goth.Provider for the brands whose package in goth calls what has been switched off, or that goth has none of: an
// authorization URL, and a profile that the access token opens. Everything else is brand's.
type plain struct {
	HTTPClient *http.Client

	name, authURL, profileURL string
	query                     url.Values // of the authorization request
	user                      func(profile map[string]any) goth.User
}

var _ goth.Provider = (*plain)(nil)

// plainly is make for plain. clientName and separator are the brand's for client_id and between scopes.
func plainly(
	authURL, profileURL, clientName, separator string, user func(profile map[string]any) goth.User,
) func(c Config) goth.Provider {
	return func(c Config) goth.Provider {
		return &plain{authURL: authURL, profileURL: profileURL, user: user, query: url.Values{
			"response_type": {"code"}, clientName: {c.ClientID}, "redirect_uri": {c.CallbackURL},
			"scope": {strings.Join(c.Scopes, separator)},
		}}
	}
}

// plainSession is plain's goth.Session.
type plainSession struct{ AuthURL, AccessToken string }

// GetAuthURL implements goth.Session.
func (s *plainSession) GetAuthURL() (string, error) { return s.AuthURL, nil }

// Marshal implements goth.Session.
func (s *plainSession) Marshal() string {
	text, err := json.Marshal(map[string]string{"AuthURL": s.AuthURL}) // there is no access token yet
	if err != nil {
		return ""
	}
	return string(text)
}

// Authorize implements goth.Session. brand makes the exchange.
func (s *plainSession) Authorize(goth.Provider, goth.Params) (string, error) {
	return "", errors.New("authorize: not by itself")
}

// Name implements goth.Provider.
func (p *plain) Name() string { return p.name }

// SetName implements goth.Provider.
func (p *plain) SetName(name string) { p.name = name }

// Debug implements goth.Provider and does nothing.
func (p *plain) Debug(bool) {}

// RefreshTokenAvailable implements goth.Provider.
func (p *plain) RefreshTokenAvailable() bool { return false }

// RefreshToken implements goth.Provider. brand renews.
func (p *plain) RefreshToken(string) (*oauth2.Token, error) {
	return nil, errors.New("refresh token: not by itself")
}

// BeginAuth implements goth.Provider.
func (p *plain) BeginAuth(state string) (goth.Session, error) {
	p.query.Set("state", state)
	return &plainSession{AuthURL: p.authURL + "?" + p.query.Encode()}, nil
}

// UnmarshalSession implements goth.Provider.
func (p *plain) UnmarshalSession(text string) (goth.Session, error) {
	s := &plainSession{}
	return s, json.Unmarshal([]byte(text), s)
}

// FetchUser implements goth.Provider.
func (p *plain) FetchUser(session goth.Session) (goth.User, error) {
	request, err := http.NewRequest(http.MethodGet, p.profileURL, nil)
	if err != nil {
		return goth.User{}, err
	}
	request.Header.Set("Authorization", "Bearer "+session.(*plainSession).AccessToken)
	response, err := p.HTTPClient.Do(request)
	if err != nil {
		return goth.User{}, err
	}
	defer response.Body.Close()
	var profile map[string]any
	if err := json.NewDecoder(response.Body).Decode(&profile); err != nil || response.StatusCode != http.StatusOK {
		return goth.User{}, errUnexpected
	}
	user := p.user(profile)
	user.RawData = profile
	return user, nil
}

// linkedinUser reads LinkedIn's userinfo.
func linkedinUser(profile map[string]any) goth.User {
	return goth.User{
		UserID: textOf(profile, "sub"), Name: textOf(profile, "name"), Email: textOf(profile, "email"),
		AvatarURL: textOf(profile, "picture"),
	}
}

// tiktokUser reads TikTok's /v2/user/info/.
func tiktokUser(profile map[string]any) goth.User {
	lift(profile, "data")
	lift(profile, "user")
	return goth.User{
		UserID: textOf(profile, "open_id"), Name: textOf(profile, "display_name"), AvatarURL: textOf(profile, "avatar_url"),
	}
}

// xUser reads X's /2/users/me.
func xUser(profile map[string]any) goth.User {
	lift(profile, "data")
	return goth.User{
		UserID: textOf(profile, "id"), Name: textOf(profile, "name"), NickName: textOf(profile, "username"),
		AvatarURL: textOf(profile, "profile_image_url"),
	}
}
