package provider_test

import (
	"net/url"
	"time"
)

const tenant = "11111111-2222-3333-4444-555555555555"

// oddShapes are the brands that have more than one way, or one of their own.
func oddShapes() []shape {
	openID := func(kind, issuer, token string) shape {
		return shape{kind: kind, issuer: issuer, token: token, subject: "the-subject", name: "Alice", refresh: "r1", lifetime: hour}
	}
	goths := func(kind, subject, host, body string, scopes ...string) shape {
		return shape{
			kind: kind, scopes: scopes, token: bearerHour, refresh: "r1", lifetime: hour, subject: subject, name: "Alice",
			profile: map[string]string{host: body},
		}
	}
	shop := goths("shopify", "7", "acme.myshopify.com/admin/api/2019-04/shop.json", `{"shop":{"id":7,"name":"Alice"}}`).
		answering(`{"access_token":"a1","scope":"read_customers"}`).lasts(0, "read_customers").set("shop", "acme")
	shop.refresh, shop.callback = "", url.Values{"shop": {"acme.myshopify.com"}, "host": {"aG9zdA"}, "timestamp": {"1337178173"}}
	cognito := openID("cognito", "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Abc", "")
	cognito.extra = map[string]string{"region": "eu-central-1", "user_pool": "eu-central-1_Abc"}
	gitlabHour := `{"access_token":"a1","token_type":"Bearer","expires_in":7200,"refresh_token":"r1","scope":"read_user",` +
		`"created_at":1607635748}`
	entraHour := `{"token_type":"Bearer","scope":"User.Read","expires_in":3599,"ext_expires_in":3599,"access_token":"a1",` +
		`"refresh_token":"r1"}`
	lark := goths("lark", "ou_1", "open.feishu.cn/open-apis/authen/v1/user_info",
		`{"code":0,"data":{"open_id":"ou_1","name":"Alice"}}`).
		answering(`{"code":0,"msg":"","data":{"access_token":"a1","refresh_token":"r1","token_type":"Bearer",`+
			`"expires_in":6900,"refresh_expires_in":2591700,"scope":"auth"}}`).
		with("open.feishu.cn/open-apis/auth/v3/app_access_token/internal/", `{"code":0,"app_access_token":"app","expire":7200}`).
		lasts(6900*time.Second, "auth").refuses(200, `{"code":20037,"msg":"refresh token expired"}`, "")
	lark.renewed = `{"code":0,"data":{"access_token":"a2","refresh_token":"r2","expires_in":6900}}`
	wechat := goths("wechat", "o1", "api.weixin.qq.com/sns/userinfo", `{"openid":"o1","nickname":"Alice"}`).
		answering(`{"access_token":"a1","expires_in":7200,"refresh_token":"r1","openid":"o1","scope":"snsapi_login"}`).
		lasts(2*hour, "snsapi_login").
		refuses(200, `{"errcode":40030,"errmsg":"invalid refresh_token"}`, "")
	github := goths("github", "42", "api.github.com/user", `{"id":42,"name":"Alice"}`).
		answering(`access_token=a1&expires_in=28800&refresh_token=r1&refresh_token_expires_in=15811200&scope=&token_type=bearer`).
		lasts(8*hour, "").
		refuses(200, `error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired.`,
			"bad_refresh_token")
	github.renewed = `access_token=a2&expires_in=28800&refresh_token=r2&scope=&token_type=bearer`
	oauthApp := goths("github", "42", "ghe.acme.example/api/v3/user", `{"id":42,"name":"Alice"}`).
		answering(`{"access_token":"a1","scope":"read:user","token_type":"bearer"}`).lasts(0, "read:user").set("base_url",
		"https://ghe.acme.example")
	oauthApp.refresh = ""
	stripe := goths("stripe", "acct_1", "api.stripe.com/v1/accounts/acct_1", `{"id":"acct_1","display_name":"Alice"}`).
		answering(`{"access_token":"a1","livemode":false,"refresh_token":"r1","token_type":"bearer","stripe_user_id":"acct_1",`+
			`"scope":"express"}`).lasts(0, "express")
	google := goths("google", "1", "www.googleapis.com/oauth2/v2/userinfo", `{"id":"1","name":"Alice"}`, "email")
	google.renewed = `{"access_token":"a2","expires_in":3599,"scope":"email","token_type":"Bearer"}`
	apple := openID("apple", "https://appleid.apple.com", "")
	apple.callback = url.Values{"user": {`{"name":{"firstName":"Alice","lastName":"Liddell"},"email":"a@example.com"}`}}
	apple.name = "Alice Liddell" // in the id token there is none
	return append([]shape{
		apple, openID("auth0", "https://acme.eu.auth0.com/", "").set("domain",
			"acme.eu.auth0.com"),
		goths("auth0", "auth0|1", "acme.eu.auth0.com/userinfo", `{"sub":"auth0|1","name":"Alice"}`, "offline_access").
			set("domain", "acme.eu.auth0.com").
			refuses(403, `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}`, ""),
		openID("azureadv2", "https://login.microsoftonline.com/"+tenant+"/v2.0", `{"ext_expires_in":3599}`).set("tenant", tenant).
			refuses(400, `{"error":"invalid_grant","error_description":"AADSTS700082: expired","error_codes":[700082]}`, ""),
		openID("azureadv2", "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0", "").set("tenant",
			"consumers"),
		goths("azureadv2", "g-1", "graph.microsoft.com/v1.0/me", `{"id":"g-1","displayName":"Alice"}`).set("tenant", "common").
			answering(entraHour).lasts(3599*time.Second, "User.Read"),
		cognito,
		goths("dropbox", "dbid:1", "api.dropbox.com/2/users/get_current_account",
			`{"account_id":"dbid:1","name":{"given_name":"Alice"}}`).
			answering(`{"access_token":"a1","expires_in":14400,"token_type":"bearer","scope":"account_info.read",`+
				`"refresh_token":"r1","uid":"1"}`).lasts(4*hour, "account_info.read"),
		github, oauthApp,
		openID("gitlab", "https://git.acme.example", `{"expires_in":7200,"created_at":1607635748}`).set("base_url",
			"https://git.acme.example/").lasts(2*hour, ""),
		goths("gitlab", "5", "gitlab.com/api/v4/user", `{"id":5,"name":"Alice"}`, "read_user").answering(gitlabHour).
			lasts(2*hour, "read_user"),
		openID("google", "https://accounts.google.com", `{"expires_in":3599}`).lasts(3599*time.Second, ""), google,
		openID("gplus", "https://accounts.google.com", ""),
		goths("gplus", "1", "www.googleapis.com/oauth2/v2/userinfo", `{"id":"1","name":"Alice"}`, "email"),
		openID("kakao", "https://kauth.kakao.com", `{"expires_in":21599,"refresh_token_expires_in":5183999}`).
			lasts(21599*time.Second, "").asking("openid"),
		lark,
		goths("linkedin", "li1", "api.linkedin.com/v2/userinfo", `{"sub":"li1","name":"Alice","email":"a@example.com"}`).
			answering(`{"access_token":"a1","expires_in":5184000,"refresh_token":"r1","refresh_token_expires_in":525600,`+
				`"scope":"email,openid,profile"}`).lasts(60*24*hour, "email,openid,profile"),
		openID("okta", "https://acme.okta.com/oauth2/default", "").set("org_url", "https://acme.okta.com/"),
		goths("okta", "00u1", "acme.okta.com/oauth2/default/v1/userinfo", `{"sub":"00u1","name":"Alice"}`, "offline_access").
			set("org_url", "acme.okta.com"),
		openID("salesforce", "https://login.salesforce.com", `{"expires_in":null,`+
			`"instance_url":"https://acme.my.salesforce.com","issued_at":"1278448101416","signature":"x"}`).lasts(0, "").
			refuses(400, `{"error":"invalid_grant","error_description":"expired access/refresh token"}`, ""),
		shop,
		openID("slack", "https://slack.com", `{"ok":true,"expires_in":43200}`).lasts(12*hour, "").refuses(200,
			`{"ok":false,"error":"invalid_refresh_token"}`, ""),
		stripe,
		openID("twitch", "https://id.twitch.tv/oauth2", `{"scope":["openid","user:read:email"],"expires_in":14124}`).
			lasts(14124*time.Second, "openid user:read:email").
			refuses(400, `{"status":400,"message":"Invalid refresh token"}`, ""),
		goths("twitch", "44322889", "api.twitch.tv/helix/users", `{"data":[{"id":"44322889","login":"Alice"}]}`, "user:read:email").
			answering(`{"access_token":"a1","expires_in":14124,"refresh_token":"r1","scope":["user:read:email"],`+
				`"token_type":"bearer"}`).lasts(14124*time.Second, "user:read:email"),
		wechat, openID("xero", "https://identity.xero.com", `{"expires_in":1800}`).lasts(30*time.Minute, ""), openID("yahoo",
			"https://api.login.yahoo.com", ""),
		goths("yahoo", "y1", "api.login.yahoo.com/openid/v1/userinfo", `{"sub":"y1","name":"Alice"}`, "profile"),
	}, unlikeOAuth2()...)
}

// unlikeOAuth2 are the brands that have no token endpoint.
func unlikeOAuth2() []shape {
	first := func(kind, subject, name string, callback url.Values, profile map[string]string) shape {
		return shape{kind: kind, subject: subject, name: name, callback: callback, profile: profile}
	}
	verifier := url.Values{"oauth_token": {"rt"}, "oauth_verifier": {"v"}}
	oauth1 := func(at, profileAt, profile string) map[string]string {
		return map[string]string{
			at + "request_token": "oauth_token=rt&oauth_token_secret=rs&oauth_callback_confirmed=true",
			at + "access_token":  "oauth_token=a1&oauth_token_secret=as", profileAt: profile,
		}
	}
	wecom := first("wecom", "alice", "Alice", nil, map[string]string{
		"qyapi.weixin.qq.com/cgi-bin/gettoken":         `{"errcode":0,"access_token":"the-corporation's","expires_in":7200}`,
		"qyapi.weixin.qq.com/cgi-bin/user/getuserinfo": `{"errcode":0,"UserId":"alice"}`,
		"qyapi.weixin.qq.com/cgi-bin/user/get":         `{"errcode":0,"userid":"alice","name":"Alice"}`,
	}).set("agent_id", "1000002")
	return []shape{
		first("lastfm", "alice", "Alice", url.Values{"token": {"t"}}, map[string]string{
			"ws.audioscrobbler.com/2.0/?auth.getSession": `<lfm status="ok"><session><name>alice</name><key>a1</key></session></lfm>`,
			"ws.audioscrobbler.com/2.0/?user.getinfo": `<lfm status="ok"><user><name>alice</name><realname>Alice</realname>` +
				`<image size="s">https://x.example/1</image><image size="m">2</image><image size="l">3</image>` +
				`<image size="x">4</image></user></lfm>`,
		}),
		first("steam", "76561197960435530", "Alice", url.Values{
			"openid.mode": {"id_res"}, "openid.sig": {"s"}, "openid.signed": {"claimed_id,return_to,response_nonce"},
			"openid.response_nonce": {"n"},
			"openid.claimed_id":     {"https://steamcommunity.com/openid/id/76561197960435530"},
		}, map[string]string{
			"steamcommunity.com/openid/login": "ns:http://specs.openid.net/auth/2.0\nis_valid:true\n",
			"api.steampowered.com/ISteamUser/GetPlayerSummaries/v0002/": `{"response":{"players":[{"steamid":"76561197960435530",` +
				`"realname":"Alice"}]}}`,
		}),
		first("tumblr", "alice", "alice", verifier, oauth1("www.tumblr.com/oauth/", "api.tumblr.com/v2/user/info",
			`{"response":{"user":{"name":"alice"}}}`)),
		first("twitter", "2244", "Alice", verifier, oauth1("api.twitter.com/oauth/",
			"api.twitter.com/1.1/account/verify_credentials.json",
			`{"id_str":"2244","name":"Alice","screen_name":"alice","description":"","profile_image_url":"","location":""}`)),
		first("twitterv2", "2244", "Alice", verifier, oauth1("api.twitter.com/oauth/", "api.twitter.com/2/users/me",
			`{"data":{"id":"2244","name":"Alice","username":"alice","profile_image_url":""}}`)),
		wecom,
	}
}
