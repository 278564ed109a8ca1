package provider

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/markbates/goth"
	"github.com/markbates/goth/providers/patreon"
	"github.com/markbates/goth/providers/paypal"
	"github.com/markbates/goth/providers/reddit"
	"github.com/markbates/goth/providers/seatalk"
	"github.com/markbates/goth/providers/shopify"
	"github.com/markbates/goth/providers/slack"
	"github.com/markbates/goth/providers/soundcloud"
	"github.com/markbates/goth/providers/spotify"
	"github.com/markbates/goth/providers/steam"
	"github.com/markbates/goth/providers/strava"
	"github.com/markbates/goth/providers/stripe"
	"github.com/markbates/goth/providers/tumblr"
	"github.com/markbates/goth/providers/twitch"
	"github.com/markbates/goth/providers/twitter"
	"github.com/markbates/goth/providers/twitterv2"
	"github.com/markbates/goth/providers/typetalk"
	"github.com/markbates/goth/providers/uber"
	"github.com/markbates/goth/providers/vk"
	"github.com/markbates/goth/providers/wechat"
	"github.com/markbates/goth/providers/wecom"
	"github.com/markbates/goth/providers/wepay"
	"github.com/markbates/goth/providers/yahoo"
	"github.com/markbates/goth/providers/yammer"
	"github.com/markbates/goth/providers/yandex"
	"github.com/markbates/goth/providers/zoom"

	"keyturn/auth/tokenendpoint"
)

// brandsPToZ is the third part of the table.
func brandsPToZ() map[string]brandEntry {
	basic, post := tokenendpoint.ClientSecretBasic, tokenendpoint.ClientSecretPost
	return map[string]brandEntry{
		"patreon": {
			label: "Patreon", make: usual(patreon.New), auth: post, scopes: []string{"identity", "identity[email]"},
			tokenURL: at("https://www.patreon.com/api/oauth2/token"), renews: yes, rotates: yes,
		},
		"paypal": {
			label: "PayPal", make: paypalOf, takes: []string{"base_url"}, auth: basic,
			tokenURL: under("www.paypal.com", paypalPath+"tokenservice"), renews: yes, rotates: no,
			remark: "base_url: https://www.sandbox.paypal.com to try it",
		},
		"reddit": {
			label: "Reddit", make: redditOf, auth: basic, scopes: []string{"identity"},
			dialect: worded("message", map[string]string{"Bad Request": invalidRequest, "Unauthorized": invalidClient}),
			session: map[string]string{"access_token": "access_token"}, tokenURL: at(redditTokenURL),
			revokeURL: at("https://www.reddit.com/api/v1/revoke_token"), renews: yes, rotates: no,
		},
		"salesforce": {
			label: "Salesforce", public: true, issuer: salesforceIssuer, takes: []string{"domain"},
			scopes: []string{"openid", "profile", "email", "refresh_token"}, assumed: 15 * time.Minute, renews: yes,
			rotates: ifSet,
			remark: "does not say when access tokens expire: 15 min are assumed, its shortest session; domain: My Domain, " +
				"or test.salesforce.com",
		},
		"seatalk": {
			label: "SeaTalk", make: usual(seatalk.New), auth: post, tokenURL: at(seatalk.Endpoint.TokenURL), renews: yes,
			rotates: may,
		},
		"shopify": {
			label: "Shopify", make: shopifyOf, needs: []string{"shop"}, auth: post, check: shopifyCheck,
			answers:  allAnswers,
			tokenURL: func(e extras) string { return "https://" + e["shop"] + ".myshopify.com/admin/oauth/access_token" },
			assumed:  untilRevoked, renews: no, remark: "shop: its name before .myshopify.com; the shop is who signs in",
		},
		"slack": {
			label: "Slack", make: usual(slack.New), issuer: at("https://slack.com"), auth: post,
			dialect: ended("error", "invalid_refresh_token", "token_revoked", "token_expired"),
			scopes:  []string{"openid", "profile", "email"}, tokenURL: at("https://slack.com/api/oauth.access"),
			assumed: untilRevoked, renews: ifSet, rotates: yes,
			remark: "Sign in with Slack; scopes without openid give an API token that is not renewed",
		},
		"soundcloud": {
			label: "SoundCloud", make: usual(soundcloud.New), auth: post,
			tokenURL: at("https://api.soundcloud.com/oauth2/token"), renews: yes, rotates: yes,
		},
		"spotify": {
			label: "Spotify", public: true, make: usual(spotify.New), auth: basic, pkce: true,
			tokenURL: at("https://accounts.spotify.com/api/token"), renews: yes, rotates: may,
		},
		"steam": {
			label: "Steam", noClientID: true,
			make:  func(c Config) goth.Provider { return steam.New(c.ClientSecret.Reveal(), c.CallbackURL) },
			proof: "openid.sig", answers: openID2Answers, check: steamCheck, noToken: true, assumed: untilRevoked, renews: no,
			remark: "OpenID 2.0: no tokens at all; client_secret: the Web API key",
		},
		"strava": {
			label: "Strava", make: usual(strava.New), auth: post, dialect: listed(), bearer: true,
			tokenURL: at("https://www.strava.com/oauth/token"), renews: yes, rotates: may,
		},
		"stripe": {
			label: "Stripe", make: usual(stripe.New), auth: post, scopes: []string{"read_write"},
			session: map[string]string{"ID": "stripe_user_id"}, tokenURL: at("https://connect.stripe.com/oauth/token"),
			assumed: untilRevoked, renews: yes, rotates: may,
		},
		"tiktok": {
			label: "TikTok",
			make: plainly(
				"https://www.tiktok.com/v2/auth/authorize/",
				"https://open.tiktokapis.com/v2/user/info/?fields=open_id,display_name,avatar_url", "client_key", ",", tiktokUser),
			auth: post, dialect: tiktokDialect(), scopes: []string{"user.info.basic"},
			tokenURL: at("https://open.tiktokapis.com/v2/oauth/token/"), renews: yes, rotates: may,
			remark: "version 2 of its API, not goth's; client_id: the client key",
		},
		"tumblr": {
			label: "Tumblr", make: unscoped(tumblr.New), proof: "oauth_verifier", answers: oauth1Answers, subject: nickName, assumed: untilRevoked,
			renews: no, remark: oauth1,
		},
		"twitch": {
			label: "Twitch", make: usual(twitch.New), issuer: at("https://id.twitch.tv/oauth2"), auth: post,
			dialect: worded("message", map[string]string{
				"Invalid refresh token": invalidGrant, "invalid client": invalidClient, "invalid client secret": invalidClient,
			}), scopes: []string{"openid", "user:read:email"},
			tokenURL: at("https://id.twitch.tv/oauth2/token"), revokeURL: at("https://id.twitch.tv/oauth2/revoke"), renews: yes,
			rotates: may,
		},
		"twitter": {
			label: "X", make: unscoped(twitter.New), proof: "oauth_verifier", answers: oauth1Answers, assumed: untilRevoked, renews: no,
			remark: oauth1 + "; use x",
		},
		"twitterv2": {
			label: "X", make: unscoped(twitterv2.New), proof: "oauth_verifier", answers: oauth1Answers, assumed: untilRevoked, renews: no,
			remark: oauth1 + "; use x",
		},
		"typetalk": {
			label: "Typetalk", make: usual(typetalk.New), auth: post, tokenURL: at("https://typetalk.com/oauth2/access_token"),
			renews: yes, rotates: may,
		},
		"uber": {
			label: "Uber", make: usual(uber.New), auth: post, tokenURL: at("https://login.uber.com/oauth/token"), renews: yes,
			rotates: yes,
		},
		"vk": {
			label: "VK", make: usual(vk.New), auth: post, tokenURL: at("https://oauth.vk.com/access_token"),
			assumed: untilRevoked, renews: no,
		},
		"wechat": {
			label: "WeChat",
			make: func(c Config) goth.Provider {
				return wechat.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, wechat.WECHAT_LANG_EN)
			},
			auth: post, dialect: wechatDialect(), noEmail: true, session: map[string]string{"Openid": "openid"},
			tokenURL: at(wechat.TokenURL), renewURL: at("https://api.weixin.qq.com/sns/oauth2/refresh_token"), renews: yes,
			rotates: no,
		},
		"wecom": {
			label: "WeCom",
			make: func(c Config) goth.Provider {
				return wecom.New(c.ClientID, c.ClientSecret.Reveal(), c.Extra["agent_id"], c.CallbackURL)
			},
			needs: []string{"agent_id"}, noToken: true, assumed: untilRevoked, renews: no,
			remark: "client_id: the corp id; there is no token for people, and the corporation's is not handed to them",
		},
		"wepay": {
			label: "WePay", make: usual(wepay.New), auth: post, tokenURL: at("https://wepayapi.com/v2/oauth2/token"),
			assumed: untilRevoked, renews: no,
		},
		"x": {
			label: "X", public: true,
			make: plainly(
				"https://x.com/i/oauth2/authorize",
				"https://api.x.com/2/users/me?user.fields=profile_image_url", "client_id", " ", xUser),
			auth: basic, dialect: ended("error_description", "Value passed for the token was invalid."), pkce: true,
			scopes: []string{"tweet.read", "users.read", "offline.access"}, tokenURL: at("https://api.x.com/2/oauth2/token"),
			revokeURL: at("https://api.x.com/2/oauth2/revoke"), renews: yes, rotates: yes,
			remark: "OAuth 2.0, which goth does not have for X",
		},
		"xero": {
			label: "Xero", public: true, issuer: at("https://identity.xero.com"), scopes: DefaultScopes(), renews: yes, rotates: yes,
			remark: "OAuth 2.0: Xero has switched off the OAuth 1.0a that goth speaks",
		},
		"yahoo": {
			label: "Yahoo", make: usual(yahoo.New), issuer: at("https://api.login.yahoo.com"), auth: basic,
			scopes: []string{"openid", "profile", "email"}, tokenURL: at("https://api.login.yahoo.com/oauth2/get_token"),
			renews: yes, rotates: no,
		},
		"yammer": {
			label: "Yammer", make: usual(yammer.New), auth: post, dialect: yammerDialect(),
			tokenURL: at("https://www.yammer.com/oauth2/access_token"), assumed: untilRevoked, renews: no,
		},
		"yandex": {
			label: "Yandex", make: usual(yandex.New), auth: basic, tokenURL: at("https://oauth.yandex.com/token"), renews: yes,
			rotates: may,
		},
		"zoom": {
			label: "Zoom", public: true, make: usual(zoom.New), auth: basic, dialect: ended("reason", "Invalid Token!"), pkce: true,
			tokenURL: at("https://zoom.us/oauth/token"), revokeURL: at("https://zoom.us/oauth/revoke"), renews: yes,
			rotates: yes,
		},
	}
}

const (
	oauth1         = "OAuth 1.0a: it signs people in, but its token is of no use to others without a secret that is not kept"
	paypalPath     = "/webapps/auth/protocol/openidconnect/v1/"
	redditTokenURL = "https://www.reddit.com/api/v1/access_token"
)

// paypalOf takes the address from the settings, where goth takes it from the environment.
func paypalOf(c Config) goth.Provider {
	at := base(cmp.Or(c.Extra["base_url"], "www.paypal.com")) + paypalPath
	return paypal.NewCustomisedURL(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL,
		at+"authorize", at+"tokenservice", at+"userinfo", c.Scopes...)
}

func redditOf(c Config) goth.Provider {
	p := reddit.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, "permanent", redditTokenURL,
		"https://oauth.reddit.com/api/v1/me", c.Scopes...)
	return &p
}

func salesforceIssuer(e extras) string {
	return "https://" + host(cmp.Or(e["domain"], "login.salesforce.com"))
}

func shopifyOf(c Config) goth.Provider {
	p := shopify.New(c.ClientID, c.ClientSecret.Reveal(), c.CallbackURL, c.Scopes...)
	p.SetShopName(c.Extra["shop"])
	return p
}

// steamCheck refuses an assertion that leaves unsigned who it is of, and for whom (OpenID 2.0 section 11).
func steamCheck(_ Config, callback url.Values) error {
	signed := strings.Split(callback.Get("openid.signed"), ",")
	for _, name := range []string{"claimed_id", "return_to", "response_nonce"} {
		if !slices.Contains(signed, name) {
			return errors.New("the answer's " + name + " is not signed")
		}
	}
	return nil
}

// shopifyCheck proves that a callback is Shopify's and of the configured shop. goth knows the secret only from the
// environment.
func shopifyCheck(c Config, callback url.Values) error {
	if callback.Get("shop") != c.Extra["shop"]+".myshopify.com" {
		return errors.New("the answer is of another shop")
	}
	var pairs []string
	for name := range callback {
		if name != "hmac" && name != "signature" {
			pairs = append(pairs, name+"="+callback.Get(name))
		}
	}
	slices.Sort(pairs)
	mac := hmac.New(sha256.New, []byte(c.ClientSecret.Reveal()))
	mac.Write([]byte(strings.Join(pairs, "&")))
	if sum, err := hex.DecodeString(callback.Get("hmac")); err != nil || !hmac.Equal(sum, mac.Sum(nil)) {
		return errors.New("the answer's hmac is not Shopify's")
	}
	return nil
}
