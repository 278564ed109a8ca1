package provider

import (
	"cmp"
	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/gitea"
	"github.com/markbates/goth/providers/github"
	"github.com/markbates/goth/providers/gitlab"
	"github.com/markbates/goth/providers/google"
	"github.com/markbates/goth/providers/gplus"
	"github.com/markbates/goth/providers/heroku"
	"github.com/markbates/goth/providers/hubspot"
	"github.com/markbates/goth/providers/influxcloud"
	"github.com/markbates/goth/providers/instagram"
	"github.com/markbates/goth/providers/intercom"
	"github.com/markbates/goth/providers/kakao"
	"github.com/markbates/goth/providers/lark"
	"github.com/markbates/goth/providers/lastfm"
	"github.com/markbates/goth/providers/line"
	"github.com/markbates/goth/providers/mailru"
	"github.com/markbates/goth/providers/mastodon"
	"github.com/markbates/goth/providers/meetup"
	"github.com/markbates/goth/providers/microsoftonline"
	"github.com/markbates/goth/providers/naver"
	"github.com/markbates/goth/providers/nextcloud"
	"github.com/markbates/goth/providers/okta"
	"github.com/markbates/goth/providers/onedrive"
	"github.com/markbates/goth/providers/oura"

	"keyturn/auth/tokenendpoint"
)

// brandsGToO is the second part of the table.
func brandsGToO() map[string]brandEntry {
	basic, post := tokenendpoint.ClientSecretBasic, tokenendpoint.ClientSecretPost
	return map[string]brandEntry{
		"gitea": {
			label: "Gitea", public: true,
			make: func(c Config) goth.Provider {
				at := base(cmp.Or(c.Extra["base_url"], "gitea.com"))
				return gitea.NewCustomisedURL(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, at+"/login/oauth/authorize",
					at+"/login/oauth/access_token", at+"/api/v1/user", c.Scopes...)
			},
			takes: []string{"base_url"}, auth: post, pkce: true, bearer: true,
			tokenURL: under("gitea.com", "/login/oauth/access_token"), renews: yes, rotates: ifSet,
			remark: "keeps one grant a person: with type oidc, earlier sessions' new id tokens carry the latest sign-in's nonce, and are not taken; " +
				"with INVALIDATE_REFRESH_TOKENS, a sign-in ends the renewals of earlier sessions",
		},
		"github": {
			label: "GitHub", make: githubOf, takes: []string{"base_url"}, auth: post, pkce: true,
			tokenURL: under("github.com", "/login/oauth/access_token"), assumed: untilRevoked, renews: ifSet, rotates: yes,
			remark: "a GitHub App whose tokens expire renews; an OAuth App's token lives until revoked; base_url: an " +
				"Enterprise Server",
		},
		"gitlab": {
			label: "GitLab", public: true, make: gitlabOf, issuer: under("gitlab.com", ""), takes: []string{"base_url"}, auth: basic,
			pkce: true, bearer: true, scopes: []string{"openid", "profile", "email"},
			tokenURL: under("gitlab.com", "/oauth/token"), revokeURL: under("gitlab.com", "/oauth/revoke"), renews: yes,
			rotates: yes, remark: "a renewal ends the old access token at once",
		},
		"google": googleEntry(usual(google.New),
			"access_type=offline and prompt=consent are sent; a consent screen in testing means 7 days"),
		"gplus": googleEntry(usual(gplus.New), "Google+ is no more: the same as google"),
		"heroku": {
			label: "Heroku", make: usual(heroku.New), auth: post, scopes: []string{"identity"},
			tokenURL: at("https://id.heroku.com/oauth/token"), renews: yes, rotates: no,
		},
		"hubspot": {
			label: "HubSpot", make: usual(hubspot.New), auth: post, scopes: []string{"oauth"},
			tokenURL: at("https://api.hubapi.com/oauth/v1/token"), renews: yes, rotates: no,
			dialect: worded("status", map[string]string{
				"BAD_REFRESH_TOKEN": invalidGrant, "BAD_CLIENT_ID": invalidClient, "BAD_CLIENT_SECRET": invalidClient,
			}),
		},
		"influxcloud": {
			label: "InfluxCloud", make: influxcloudOf, takes: []string{"domain"}, auth: post, bearer: true,
			tokenURL: func(e extras) string {
				return "https://" + host(cmp.Or(e["domain"], "cloud.influxdata.com")) + "/oauth/token"
			},
			renews: no,
		},
		"instagram": {
			label: "Instagram", make: usual(instagram.New), auth: post,
			tokenURL: at("https://api.instagram.com/oauth/access_token"), renews: no,
			remark: "goth asks an API that Instagram has switched off",
		},
		"intercom": {
			label: "Intercom", make: usual(intercom.New), auth: post, tokenURL: at("https://api.intercom.io/auth/eagle/token"),
			assumed: untilRevoked, renews: no,
		},
		"kakao": {
			label: "Kakao", public: true, make: usual(kakao.New), issuer: at("https://kauth.kakao.com"), auth: post,
			tokenURL: at("https://kauth.kakao.com/oauth/token"), renews: yes, rotates: may,
			remark: "with OpenID Connect switched on at Kakao, put openid among the scopes",
		},
		"lark": {
			label: "Lark", make: usual(lark.New), auth: post, dialect: larkDialect(), subject: larkID,
			tokenURL: at("https://open.feishu.cn/open-apis/authen/v1/oidc/access_token"),
			renewURL: at("https://open.feishu.cn/open-apis/authen/v1/oidc/refresh_access_token"), renews: yes, rotates: yes,
			remark: "feishu.cn",
		},
		"lastfm": {
			label: "Last.fm", make: unscoped(lastfm.New), proof: "token", subject: nickName, assumed: untilRevoked, renews: no,
			answers: func(parameter string) bool { return parameter == "token" }, remark: "a session key instead of tokens",
		},
		"line": {
			label: "LINE", make: usual(line.New), auth: post, pkce: true, scopes: []string{"openid", "profile"},
			session: map[string]string{"IDToken": "id_token"}, tokenURL: at("https://api.line.me/oauth2/v2.1/token"),
			renews: yes, rotates: no,
			remark: "signs id tokens with the channel secret, which proves them to nobody else; goth checks them",
		},
		"linkedin": {
			label: "LinkedIn",
			make: plainly(
				"https://www.linkedin.com/oauth/v2/authorization",
				"https://api.linkedin.com/v2/userinfo", "client_id", " ", linkedinUser),
			auth: post, scopes: []string{"openid", "profile", "email"},
			tokenURL: at("https://www.linkedin.com/oauth/v2/accessToken"), renews: ifSet, rotates: no,
			remark: "refresh tokens are for approved partners; its id tokens lack the nonce, so userinfo says who it is",
		},
		"mailru": {
			label: "Mail.ru", make: usual(mailru.New), auth: basic, dialect: ended("error", "invalid token"),
			scopes: []string{"userinfo"}, tokenURL: at("https://oauth.mail.ru/token"), renews: yes, rotates: no,
		},
		"mastodon": {
			label: "Mastodon",
			make: func(c Config) goth.Provider {
				return mastodon.NewCustomisedURL(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL,
					base(cmp.Or(c.Extra["base_url"], "mastodon.social")), c.Scopes...)
			},
			takes: []string{"base_url"}, auth: post, pkce: true, scopes: []string{"read"},
			tokenURL: under("mastodon.social", "/oauth/token"), revokeURL: under("mastodon.social", "/oauth/revoke"),
			assumed: untilRevoked, renews: no,
		},
		"meetup": {
			label: "Meetup", make: usual(meetup.New), auth: post, tokenURL: at("https://secure.meetup.com/oauth2/access"),
			renews: yes, rotates: may,
		},
		"microsoftonline": {
			label: "Microsoft", public: true, make: usual(microsoftonline.New), auth: post, pkce: true,
			scopes:   []string{"openid", "offline_access", "user.read"},
			tokenURL: at("https://login.microsoftonline.com/common/oauth2/v2.0/token"), renews: yes, rotates: yes,
			remark: "as azureadv2 with the tenant common",
		},
		"naver": {
			label: "Naver", make: unscoped(naver.New), auth: post, tokenURL: at("https://nid.naver.com/oauth2.0/token"),
			renews: yes, rotates: no,
		},
		"nextcloud": {
			label: "Nextcloud",
			make: func(c Config) goth.Provider {
				return nextcloud.NewCustomisedDNS(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL,
					base(c.Extra["base_url"]), c.Scopes...)
			},
			needs: []string{"base_url"}, auth: basic, tokenURL: under("", "/apps/oauth2/api/v1/token"), renews: yes,
			rotates: yes,
		},
		"okta": {
			label: "Okta", public: true,
			make: func(c Config) goth.Provider {
				return okta.New(c.ClientID, c.ClientSecret.Reveal(), base(c.Extra["org_url"]), c.CallbackURL, c.Scopes...)
			},
			issuer: oktaURL(""), needs: []string{"org_url"}, auth: basic, pkce: true, scopes: DefaultScopes(),
			tokenURL: oktaURL("/v1/token"), revokeURL: oktaURL("/v1/revoke"), renews: yes, rotates: ifSet,
			remark: "the authorization server named default; for another, type oidc",
		},
		"onedrive": {
			label: "OneDrive", public: true, make: usual(onedrive.New), auth: post, bearer: true,
			tokenURL: at("https://login.live.com/oauth20_token.srf"), renews: yes, rotates: yes,
			remark: "asks the Live API, which Microsoft has retired: use azureadv2",
		},
		"oura": {
			label: "Oura", make: usual(oura.New), auth: post, scopes: []string{"email", "personal"},
			tokenURL: at("https://api.ouraring.com/oauth/token"), renews: yes, rotates: yes,
		},
	}
}

// googleEntry is Google, which goth has twice. A refresh token takes both parameters there.
func googleEntry(build func(c Config) goth.Provider, remark string) brandEntry {
	return brandEntry{
		label: "Google", make: build, issuer: at(googleIssuer), auth: tokenendpoint.ClientSecretPost,
		pkce: true, bearer: true,
		scopes: []string{"openid", "profile", "email"}, params: map[string]string{"access_type": "offline", "prompt": "consent"},
		tokenURL: at("https://oauth2.googleapis.com/token"), revokeURL: at("https://oauth2.googleapis.com/revoke"), withdraws: true,
		renews: yes, rotates: no, remark: remark,
	}
}

// githubOf is github.com, or an Enterprise Server, whose API is elsewhere.
func githubOf(c Config) goth.Provider {
	at, api := "https://github.com", "https://api.github.com"
	if server := c.Extra["base_url"]; server != "" {
		at, api = base(server), base(server)+"/api/v3"
	}
	return github.NewCustomisedURL(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL,
		at+"/login/oauth/authorize", at+"/login/oauth/access_token", api+"/user", api+"/user/emails", c.Scopes...)
}

// gitlabOf asks the API of today: goth's own default has been switched off.
func gitlabOf(c Config) goth.Provider {
	at := base(cmp.Or(c.Extra["base_url"], "gitlab.com"))
	return gitlab.NewCustomisedURL(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL,
		at+"/oauth/authorize", at+"/oauth/token", at+"/api/v4/user", c.Scopes...)
}

// influxcloudOf takes the domain from the settings, where goth takes it from the environment.
func influxcloudOf(c Config) goth.Provider {
	at := "https://" + host(cmp.Or(c.Extra["domain"], "cloud.influxdata.com"))
	return influxcloud.NewCustomisedURL(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL,
		at+"/oauth/authorize", at+"/oauth/token", at+"/api/v1/user", c.Scopes...)
}

// larkID is the id that goth reads, or, where the application may not read that, the one it has for the person.
func larkID(user goth.User) string {
	data, _ := user.RawData["data"].(map[string]any)
	return cmp.Or(user.UserID, textOf(data, "open_id"))
}

func oktaURL(path string) func(extras) string {
	return func(e extras) string { return base(e["org_url"]) + "/oauth2/default" + path }
}
