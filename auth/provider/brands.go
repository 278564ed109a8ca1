package provider

import (
	"net/http"
	"strings"

	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/auth0"
	"github.com/markbates/goth/providers/azureadv2"
	"github.com/markbates/goth/providers/bitbucket"
	"github.com/markbates/goth/providers/digitalocean"
	"github.com/markbates/goth/providers/discord"
	"github.com/markbates/goth/providers/dropbox"
	"github.com/markbates/goth/providers/facebook"
	"github.com/markbates/goth/providers/github"
	"github.com/markbates/goth/providers/gitlab"
	"github.com/markbates/goth/providers/google"
	"github.com/markbates/goth/providers/linkedin"
	"github.com/markbates/goth/providers/okta"
	"github.com/markbates/goth/providers/salesforce"
	"github.com/markbates/goth/providers/spotify"
	"github.com/markbates/goth/providers/twitch"

	"keyturn/auth/tokenendpoint"
)

// brandEntry is what Keyturn knows of one of goth's providers beyond what goth does.
type brandEntry struct {
	label     string
	make      func(c Config, client *http.Client) goth.Provider
	needs     string // the extra setting without which there is no such provider
	tokenURL  func(extra string) string
	revokeURL func(extra string) string // RFC 7009; nil: it has none
	auth      tokenendpoint.AuthMethod
	scopes    []string          // without which there is no refresh token, or too little
	params    map[string]string // of the authorization request
}

// made builds one of goth's providers, with our HTTP client put where that provider keeps it.
func made[P goth.Provider](build func(c Config) P, clientOf func(P) **http.Client) func(c Config, client *http.Client) goth.Provider {
	return func(c Config, client *http.Client) goth.Provider {
		p := build(c)
		*clientOf(p) = client
		return p
	}
}

// usual is made for the constructor that most of goth's packages have.
func usual[P goth.Provider](
	build func(clientID, clientSecret, callbackURL string, scopes ...string) P, clientOf func(P) **http.Client,
) func(c Config, client *http.Client) goth.Provider {
	return made(func(c Config) P { return build(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...) }, clientOf)
}

func at(url string) func(string) string { return func(string) string { return url } }

// host is a domain as people write it, with or without a scheme.
func host(domain string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(domain, "https://"), "http://"), "/")
}

// brands is the table of goth's providers, by type.
func brands() map[string]brandEntry {
	basic, post := tokenendpoint.ClientSecretBasic, tokenendpoint.ClientSecretPost
	return map[string]brandEntry{
		"auth0": {
			label: "Auth0", needs: "domain", auth: post, scopes: DefaultScopes(),
			tokenURL:  func(domain string) string { return "https://" + host(domain) + "/oauth/token" },
			revokeURL: func(domain string) string { return "https://" + host(domain) + "/oauth/revoke" },
			make: made(func(c Config) *auth0.Provider {
				return auth0.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, host(c.Extra["domain"]), c.Scopes...)
			}, func(p *auth0.Provider) **http.Client { return &p.HTTPClient }),
		},
		"azureadv2": {
			label: "Microsoft", needs: "tenant", auth: post, scopes: append(DefaultScopes(), "User.Read"),
			tokenURL: func(tenant string) string {
				return "https://login.microsoftonline.com/" + tenant + "/oauth2/v2.0/token"
			},
			make: made(func(c Config) *azureadv2.Provider {
				options := azureadv2.ProviderOptions{Tenant: azureadv2.TenantType(c.Extra["tenant"])}
				for _, scope := range c.Scopes {
					options.Scopes = append(options.Scopes, azureadv2.ScopeType(scope))
				}
				return azureadv2.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, options)
			}, func(p *azureadv2.Provider) **http.Client { return &p.HTTPClient }),
		},
		"bitbucket":    {label: "Bitbucket", auth: basic, tokenURL: at("https://bitbucket.org/site/oauth2/access_token"), make: usual(bitbucket.New, func(p *bitbucket.Provider) **http.Client { return &p.HTTPClient })},
		"digitalocean": {label: "DigitalOcean", auth: post, tokenURL: at("https://cloud.digitalocean.com/v1/oauth/token"), make: usual(digitalocean.New, func(p *digitalocean.Provider) **http.Client { return &p.HTTPClient })},
		"discord":      {label: "Discord", auth: basic, scopes: []string{"identify", "email"}, tokenURL: at("https://discord.com/api/oauth2/token"), revokeURL: at("https://discord.com/api/oauth2/token/revoke"), make: usual(discord.New, func(p *discord.Provider) **http.Client { return &p.HTTPClient })},
		"dropbox":      {label: "Dropbox", auth: basic, params: map[string]string{"token_access_type": "offline"}, tokenURL: at("https://api.dropbox.com/oauth2/token"), make: usual(dropbox.New, func(p *dropbox.Provider) **http.Client { return &p.HTTPClient })},
		"facebook":     {label: "Facebook", auth: post, tokenURL: at("https://graph.facebook.com/oauth/access_token"), make: usual(facebook.New, func(p *facebook.Provider) **http.Client { return &p.HTTPClient })},
		"github":       {label: "GitHub", auth: post, tokenURL: at(github.TokenURL), make: usual(github.New, func(p *github.Provider) **http.Client { return &p.HTTPClient })},
		"gitlab":       {label: "GitLab", auth: basic, scopes: []string{"read_user"}, tokenURL: at(gitlab.TokenURL), revokeURL: at("https://gitlab.com/oauth/revoke"), make: usual(gitlab.New, func(p *gitlab.Provider) **http.Client { return &p.HTTPClient })},
		"google":       {label: "Google", auth: post, params: map[string]string{"access_type": "offline", "prompt": "consent"}, tokenURL: at(google.Endpoint.TokenURL), revokeURL: at("https://oauth2.googleapis.com/revoke"), make: usual(google.New, func(p *google.Provider) **http.Client { return &p.HTTPClient })},
		"linkedin":     {label: "LinkedIn", auth: post, tokenURL: at("https://www.linkedin.com/oauth/v2/accessToken"), make: usual(linkedin.New, func(p *linkedin.Provider) **http.Client { return &p.HTTPClient })},
		"okta": {
			label: "Okta", needs: "org_url", auth: basic, scopes: DefaultScopes(),
			tokenURL:  func(org string) string { return "https://" + host(org) + "/oauth2/default/v1/token" },
			revokeURL: func(org string) string { return "https://" + host(org) + "/oauth2/default/v1/revoke" },
			make: made(func(c Config) *okta.Provider {
				return okta.New(c.ClientID, c.ClientSecret.Reveal(), "https://"+host(c.Extra["org_url"]), c.CallbackURL, c.Scopes...)
			}, func(p *okta.Provider) **http.Client { return &p.HTTPClient }),
		},
		"salesforce": {label: "Salesforce", auth: post, tokenURL: at(salesforce.TokenURL), revokeURL: at("https://login.salesforce.com/services/oauth2/revoke"), make: usual(salesforce.New, func(p *salesforce.Provider) **http.Client { return &p.HTTPClient })},
		"spotify":    {label: "Spotify", auth: basic, tokenURL: at("https://accounts.spotify.com/api/token"), make: usual(spotify.New, func(p *spotify.Provider) **http.Client { return &p.HTTPClient })},
		"twitch":     {label: "Twitch", auth: post, tokenURL: at("https://id.twitch.tv/oauth2/token"), revokeURL: at("https://id.twitch.tv/oauth2/revoke"), make: usual(twitch.New, func(p *twitch.Provider) **http.Client { return &p.HTTPClient })},
	}
}
