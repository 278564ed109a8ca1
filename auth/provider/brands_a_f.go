package provider

import (
	"net/url"
	"strings"

	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/amazon"
	"github.com/markbates/goth/providers/auth0"
	"github.com/markbates/goth/providers/azuread"
	"github.com/markbates/goth/providers/azureadv2"
	"github.com/markbates/goth/providers/battlenet"
	"github.com/markbates/goth/providers/bitbucket"
	"github.com/markbates/goth/providers/bitly"
	"github.com/markbates/goth/providers/box"
	"github.com/markbates/goth/providers/classlink"
	"github.com/markbates/goth/providers/cloudfoundry"
	"github.com/markbates/goth/providers/dailymotion"
	"github.com/markbates/goth/providers/deezer"
	"github.com/markbates/goth/providers/digitalocean"
	"github.com/markbates/goth/providers/discord"
	"github.com/markbates/goth/providers/dropbox"
	"github.com/markbates/goth/providers/eveonline"
	"github.com/markbates/goth/providers/facebook"
	"github.com/markbates/goth/providers/fitbit"

	"keyturn/auth/tokenendpoint"
)

// brandsAToF is the first part of the table.
func brandsAToF() map[string]brandEntry {
	basic, post := tokenendpoint.ClientSecretBasic, tokenendpoint.ClientSecretPost
	return map[string]brandEntry{
		"amazon": {
			label: "Amazon", make: usual(amazon.New), auth: post, bearer: true,
			tokenURL: at("https://api.amazon.com/auth/o2/token"), scopes: []string{"profile"}, renews: yes, rotates: no,
		},
		"apple": {
			label: "Apple", issuer: at("https://appleid.apple.com"), needs: []string{"team_id", "key_id", "key_file"},
			secret: appleSecret, auth: post, answers: appleAnswers, names: appleName, scopes: []string{"openid", "name", "email"},
			params: map[string]string{"response_mode": "form_post"}, withdraws: true, renews: yes, rotates: no,
			remark: "no client_secret: it is made of the key, for each call; Apple throttles renewals: max_age 24h",
		},
		"auth0": {
			label: "Auth0", public: true,
			make: func(c Config) goth.Provider {
				return auth0.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, host(c.Extra["domain"]), c.Scopes...)
			},
			issuer: domainURL("/"), needs: []string{"domain"}, auth: post, scopes: DefaultScopes(),
			tokenURL: domainURL("/oauth/token"), revokeURL: domainURL("/oauth/revoke"), logoutURL: auth0Logout, renews: yes,
			rotates: ifSet, remark: "set audience, or access tokens are opaque; give rotation an overlap of 30 s, longer than renew-timeout",
		},
		"azuread": {
			label: "Azure AD (v1)", public: true,
			make: func(c Config) goth.Provider {
				return azuread.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, nil, c.Scopes...)
			},
			auth: post, tokenURL: at("https://login.microsoftonline.com/common/oauth2/token"), renews: yes, rotates: yes,
			remark: "asks Azure AD Graph, which Microsoft has retired: use azureadv2",
		},
		"azureadv2": {
			label: "Microsoft", public: true,
			make: func(c Config) goth.Provider {
				return azureadv2.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, entraOptions(c))
			},
			issuer: entraIssuer, needs: []string{"tenant"}, auth: post, pkce: true,
			scopes: append(DefaultScopes(), "User.Read"), session: map[string]string{"at": "access_token"},
			tokenURL: entraTokenURL, renews: yes, rotates: yes,
			remark: "OpenID with the tenant's id or consumers; with common, organizations or a domain Microsoft Graph says " +
				"who it is",
		},
		"battlenet": {
			label: "Battle.net", make: usual(battlenet.New), auth: basic, tokenURL: at("https://us.battle.net/oauth/token"),
			renews: no,
		},
		"bitbucket": {
			label: "Bitbucket", make: usual(bitbucket.New), auth: basic,
			tokenURL: at("https://bitbucket.org/site/oauth2/access_token"), renews: yes, rotates: no,
			remark: "the consumer needs the permissions account and email",
		},
		"bitly": {
			label: "Bitly", make: usual(bitly.New), auth: post, subject: nickName,
			tokenURL: at("https://api-ssl.bitly.com/oauth/access_token"), assumed: untilRevoked, renews: no,
		},
		"box": {
			label: "Box", make: usual(box.New), auth: post, tokenURL: at("https://app.box.com/api/oauth2/token"),
			revokeURL: at("https://api.box.com/oauth2/revoke"), renews: yes, rotates: yes,
		},
		"classlink": {
			label: "ClassLink", make: usual(classlink.New), auth: post,
			tokenURL: at("https://launchpad.classlink.com/oauth2/v2/token"), assumed: untilRevoked, renews: no,
		},
		"cloudfoundry": {
			label: "Cloud Foundry", public: true,
			make: func(c Config) goth.Provider {
				return cloudfoundry.New(base(c.Extra["base_url"]), c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
			},
			needs: []string{"base_url"}, auth: basic, scopes: []string{"openid"}, tokenURL: under("", "/oauth/token"),
			renews: yes, rotates: ifSet, remark: "base_url: the UAA's",
		},
		"cognito": {
			label: "Amazon Cognito", public: true, issuer: cognitoIssuer, needs: []string{"region", "user_pool"},
			scopes: []string{"openid", "profile", "email"}, logoutKey: "logout_uri", renews: yes, rotates: ifSet,
			remark: "user_pool: its id, such as eu-central-1_AbCdEfGhI",
		},
		"dailymotion": {
			label: "Dailymotion", make: usual(dailymotion.New), auth: post,
			tokenURL: at("https://www.dailymotion.com/oauth/token"), renews: yes, rotates: may,
		},
		"deezer": {
			label: "Deezer", make: usual(deezer.New), auth: post, dialect: deezerDialect(),
			tokenURL: at("https://connect.deezer.com/oauth/access_token.php?output=json"), assumed: untilRevoked, renews: no,
		},
		"digitalocean": {
			label: "DigitalOcean", make: usual(digitalocean.New), auth: post,
			tokenURL:  at("https://cloud.digitalocean.com/v1/oauth/token"),
			revokeURL: at("https://cloud.digitalocean.com/v1/oauth/revoke"), renews: yes, rotates: yes,
		},
		"discord": {
			label: "Discord", public: true, make: usual(discord.New), auth: basic, scopes: []string{"identify", "email"},
			tokenURL: at("https://discord.com/api/oauth2/token"), revokeURL: at("https://discord.com/api/oauth2/token/revoke"),
			withdraws: true, renews: yes, rotates: yes,
		},
		"dropbox": {
			label: "Dropbox", public: true, make: usual(dropbox.New), auth: basic, pkce: true, scoped: true,
			params: map[string]string{"token_access_type": "offline"}, session: map[string]string{"Token": "access_token"},
			tokenURL: at("https://api.dropbox.com/oauth2/token"), renews: yes, rotates: no,
		},
		"eveonline": {
			label: "EVE Online", make: usual(eveonline.New), auth: basic,
			tokenURL: at("https://login.eveonline.com/oauth/token"), renews: yes, rotates: may,
		},
		"facebook": {
			label: "Facebook", make: usual(facebook.New), auth: post,
			tokenURL: at("https://graph.facebook.com/oauth/access_token"), renews: no,
			remark: "access tokens of 60 days; Keyturn believes 24 h of it",
		},
		"fitbit": {
			label: "Fitbit", public: true, make: usual(fitbit.New), auth: basic, dialect: listed(), pkce: true,
			session: map[string]string{"UserID": "user_id"}, tokenURL: at("https://api.fitbit.com/oauth2/token"),
			revokeURL: at("https://api.fitbit.com/oauth2/revoke"), renews: yes, rotates: yes,
		},
	}
}

// domainURL is a path at the host in the setting domain.
func domainURL(path string) func(extras) string {
	return func(e extras) string { return "https://" + host(e["domain"]) + path }
}

// auth0Logout is Auth0's own end of session, which tenants have that do not announce the standard one.
func auth0Logout(e extras, clientID, returnTo string) string {
	return domainURL("/v2/logout?")(e) + url.Values{"client_id": {clientID}, "returnTo": {returnTo}}.Encode()
}

func entraOptions(c Config) azureadv2.ProviderOptions {
	options := azureadv2.ProviderOptions{Tenant: azureadv2.TenantType(c.Extra["tenant"])}
	for _, scope := range c.Scopes {
		options.Scopes = append(options.Scopes, azureadv2.ScopeType(scope))
	}
	return options
}

const entraURL = "https://login.microsoftonline.com/"

func entraTokenURL(e extras) string { return entraURL + e["tenant"] + "/oauth2/v2.0/token" }

// entraIssuer is known for one tenant only: of common and its like the metadata names a template, and of a domain the id of
// its tenant. A token of just any tenant would then do.
func entraIssuer(e extras) string {
	tenant := strings.ToLower(e["tenant"])
	if tenant == "consumers" {
		tenant = "9188040d-6c67-4c5b-b112-36a304b66dad" // where all personal accounts are
	}
	if len(tenant) != 36 || strings.Trim(tenant, "0123456789abcdef-") != "" {
		return ""
	}
	return entraURL + tenant + "/v2.0"
}

func cognitoIssuer(e extras) string {
	return "https://cognito-idp." + e["region"] + ".amazonaws.com/" + e["user_pool"]
}

// nickName is the identity where a brand knows people by nothing else.
func nickName(user goth.User) string { return user.NickName }
