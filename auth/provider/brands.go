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
			make: func(c Config, client *http.Client) goth.Provider {
				p := auth0.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, host(c.Extra["domain"]), c.Scopes...)
				p.HTTPClient = client
				return p
			},
		},
		"azureadv2": {
			label: "Microsoft", needs: "tenant", auth: post, scopes: append(DefaultScopes(), "User.Read"),
			tokenURL: func(tenant string) string {
				return "https://login.microsoftonline.com/" + tenant + "/oauth2/v2.0/token"
			},
			make: func(c Config, client *http.Client) goth.Provider {
				options := azureadv2.ProviderOptions{Tenant: azureadv2.TenantType(c.Extra["tenant"])}
				for _, scope := range c.Scopes {
					options.Scopes = append(options.Scopes, azureadv2.ScopeType(scope))
				}
				p := azureadv2.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, options)
				p.HTTPClient = client
				return p
			},
		},
		"bitbucket": {label: "Bitbucket", auth: basic, tokenURL: at("https://bitbucket.org/site/oauth2/access_token"), make: func(c Config, client *http.Client) goth.Provider {
			p := bitbucket.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"digitalocean": {label: "DigitalOcean", auth: post, tokenURL: at("https://cloud.digitalocean.com/v1/oauth/token"), make: func(c Config, client *http.Client) goth.Provider {
			p := digitalocean.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"discord": {label: "Discord", auth: basic, scopes: []string{"identify", "email"}, tokenURL: at("https://discord.com/api/oauth2/token"), revokeURL: at("https://discord.com/api/oauth2/token/revoke"), make: func(c Config, client *http.Client) goth.Provider {
			p := discord.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"dropbox": {label: "Dropbox", auth: basic, params: map[string]string{"token_access_type": "offline"}, tokenURL: at("https://api.dropbox.com/oauth2/token"), make: func(c Config, client *http.Client) goth.Provider {
			p := dropbox.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"facebook": {label: "Facebook", auth: post, tokenURL: at("https://graph.facebook.com/oauth/access_token"), make: func(c Config, client *http.Client) goth.Provider {
			p := facebook.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"github": {label: "GitHub", auth: post, tokenURL: at(github.TokenURL), make: func(c Config, client *http.Client) goth.Provider {
			p := github.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"gitlab": {label: "GitLab", auth: basic, scopes: []string{"read_user"}, tokenURL: at(gitlab.TokenURL), revokeURL: at("https://gitlab.com/oauth/revoke"), make: func(c Config, client *http.Client) goth.Provider {
			p := gitlab.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"google": {label: "Google", auth: post, params: map[string]string{"access_type": "offline", "prompt": "consent"}, tokenURL: at(google.Endpoint.TokenURL), revokeURL: at("https://oauth2.googleapis.com/revoke"), make: func(c Config, client *http.Client) goth.Provider {
			p := google.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"linkedin": {label: "LinkedIn", auth: post, tokenURL: at("https://www.linkedin.com/oauth/v2/accessToken"), make: func(c Config, client *http.Client) goth.Provider {
			p := linkedin.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"okta": {
			label: "Okta", needs: "org_url", auth: basic, scopes: DefaultScopes(),
			tokenURL:  func(org string) string { return "https://" + host(org) + "/oauth2/default/v1/token" },
			revokeURL: func(org string) string { return "https://" + host(org) + "/oauth2/default/v1/revoke" },
			make: func(c Config, client *http.Client) goth.Provider {
				p := okta.New(c.ClientID, c.ClientSecret.Reveal(), "https://"+host(c.Extra["org_url"]), c.CallbackURL, c.Scopes...)
				p.HTTPClient = client
				return p
			},
		},
		"salesforce": {label: "Salesforce", auth: post, tokenURL: at(salesforce.TokenURL), revokeURL: at("https://login.salesforce.com/services/oauth2/revoke"), make: func(c Config, client *http.Client) goth.Provider {
			p := salesforce.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"spotify": {label: "Spotify", auth: basic, tokenURL: at("https://accounts.spotify.com/api/token"), make: func(c Config, client *http.Client) goth.Provider {
			p := spotify.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
		"twitch": {label: "Twitch", auth: post, tokenURL: at("https://id.twitch.tv/oauth2/token"), revokeURL: at("https://id.twitch.tv/oauth2/revoke"), make: func(c Config, client *http.Client) goth.Provider {
			p := twitch.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			p.HTTPClient = client
			return p
		}},
	}
}
