package provider

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/markbates/goth"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// can says what a brand does, for people.
type can string

const (
	yes         can = "yes"
	no          can = "no"
	ifSet       can = "if set so" // in the provider's own settings of the application
	may         can = "may"       // it decides itself, from time to time
	ifAnnounced can = "if announced"
	withConsent can = "the consent" // and with it whatever else it has of the person
)

// extras are a provider's settings that only some brands have, by name.
type extras = map[string]string

// untilRevoked is assumed of access tokens that live until somebody revokes them: the most that is believed of any.
const untilRevoked = auth.MaxLifetime

// brandEntry is what Keyturn knows of one brand beyond what goth's provider of it does.
type brandEntry struct {
	label string

	// make builds goth's provider, or ours in its place where goth's calls what the brand has switched off. nil: people sign
	// in with OpenID Connect or not at all.
	make func(c Config) goth.Provider
	// issuer is the brand as an OpenID provider. With the scope openid among the scopes the generic OpenID provider then does
	// the whole work: PKCE, nonce, a verified id token. "" or nil: goth does.
	issuer func(e extras) string
	secret func(c Config) (mint func(now time.Time) auth.Secret, err error) // of a client secret that is made for each call

	needs, takes []string // names of settings: without these there is no such provider; these it may have

	tokenURL  func(e extras) string // nil: no OAuth 2.0
	renewURL  func(e extras) string // where renewals have an endpoint of their own
	revokeURL func(e extras) string // RFC 7009; nil: it has none
	withdraws bool                  // a revocation there withdraws the person's consent: see auth.Provider.RevokesConsent
	logoutURL func(e extras, clientID, returnTo string) string
	logoutKey string // what post_logout_redirect_uri is called there

	noClientID bool // client_secret alone says which client it is
	public     bool // takes clients without a client secret

	auth   tokenendpoint.AuthMethod
	scopes []string // without which there is no refresh token, or too little
	scoped bool     // goth leaves the scopes out of the authorization request
	params map[string]string
	pkce   bool // knows PKCE (RFC 7636); others are not bothered with it

	dialect dialect
	session map[string]string                // members of the token answer that goth's session keeps, by the name that it gives them
	proof   string                           // what of the callback stands for a code, where goth itself does the exchange
	answers func(parameter string) bool      // of the callback, beside what RFC 6749 has; nil: none
	names   func(callback url.Values) string // what the callback says the person is called, where nothing else does; nobody vouches for it
	check   func(c Config, callback url.Values) error
	bearer  bool                        // goth puts the access token into the URL of the profile; it belongs in a header
	subject func(user goth.User) string // who it is, where goth knows no user id
	noEmail bool                        // goth makes the address up
	noToken bool                        // what goth calls the access token is none, or not the person's

	renews, rotates can
	assumed         time.Duration // of an access token that does not say
	remark          string
}

// brands is the table of brands, by type.
func brands() map[string]brandEntry {
	all := brandsAToF()
	maps.Copy(all, brandsGToO())
	maps.Copy(all, brandsPToZ())
	return all
}

// usual is make for the constructor that most of goth's packages have.
func usual[P goth.Provider](
	build func(clientID, clientSecret, callbackURL string, scopes ...string) P,
) func(c Config) goth.Provider {
	return func(c Config) goth.Provider {
		return build(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
	}
}

// unscoped is make for the constructors without scopes.
func unscoped[P goth.Provider](
	build func(clientID, clientSecret, callbackURL string) P,
) func(c Config) goth.Provider {
	return func(c Config) goth.Provider { return build(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL) }
}

// withClient puts an HTTP client where goth's provider keeps it. Some packages have no such place, or ignore it (mailru,
// reddit, seatalk, tumblr, both of Twitter's, wechat): those use http.DefaultTransport, which the program bounds
// (BoundDefaultTransport).
func withClient(p goth.Provider, client *http.Client) goth.Provider {
	if field := reflect.ValueOf(p).Elem().FieldByName("HTTPClient"); field.IsValid() {
		field.Set(reflect.ValueOf(client))
	}
	return p
}

// oauth1Answers are those of OAuth 1.0a (RFC 5849 section 2.2), and how it is said that somebody did not want to.
func oauth1Answers(parameter string) bool {
	return slices.Contains([]string{"oauth_token", "oauth_verifier", "denied"}, parameter)
}

// openID2Answers are those of OpenID 2.0 (section 4.1.2), which signs any of them.
func openID2Answers(parameter string) bool { return strings.HasPrefix(parameter, "openid.") }

// allAnswers are those of a brand that signs whatever it says.
func allAnswers(string) bool { return true }

func at(url string) func(extras) string { return func(extras) string { return url } }

// under is a path below the address in the setting base_url, or below the given one.
func under(address, path string) func(extras) string {
	return func(e extras) string { return base(cmp.Or(e["base_url"], address)) + path }
}

// base is an address as people write it, with or without a scheme and a slash at its end.
func base(address string) string {
	address = strings.TrimRight(address, "/")
	if address != "" && !strings.Contains(address, "://") {
		address = "https://" + address
	}
	return address
}

// host is a domain as people write it, with or without a scheme.
func host(domain string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(domain, "https://"), "http://"), "/")
}

// origin stands in an identity for the issuer that the brand does not name: its type, and the host of its token endpoint. It is stored: a
// brand that moves to another host keeps the former one here.
func (e brandEntry) origin(c Config) string {
	origin := c.Type + ":"
	if e.tokenURL == nil {
		return origin
	}
	if u, err := url.Parse(e.tokenURL(c.Extra)); err == nil {
		origin += strings.ToLower(u.Host)
	}
	return origin
}

// issued says whether an identity with this issuer can be from the brand, by OpenID Connect or without.
func (e brandEntry) issued(c Config, issuer string) bool {
	return e.issuer != nil && issuer != "" && issuer == e.issuer(c.Extra) ||
		e.make != nil && (issuer == "" || issuer == e.origin(c)) // nothing: as earlier versions stored it
}

// facts is what a brand can do once somebody has signed in.
type facts struct{ renews, rotates, revokes, ends can }

func (e brandEntry) facts() facts {
	f := facts{renews: e.renews, rotates: e.rotates, revokes: no, ends: no}
	if f.renews == no {
		f.rotates = no
	}
	if e.issuer != nil {
		f.revokes, f.ends = ifAnnounced, ifAnnounced
	}
	switch {
	case e.withdraws:
		f.revokes = withConsent
	case e.revokeURL != nil:
		f.revokes = yes
	}
	if e.logoutURL != nil {
		f.ends = yes
	}
	return f
}
