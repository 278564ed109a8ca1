package provider_test

import (
	"net/url"
	"time"
)

// shape is how a brand answers, as it documents it or as others have met it, and what Keyturn must make of that.
type shape struct {
	kind     string
	extra    map[string]string
	scopes   []string          // nil: the brand's
	issuer   string            // as an OpenID provider
	token    string            // token answer; of an OpenID provider what it has beside or instead of the usual
	renewed  string            // the second one; "": the first, with a2 and r2
	refusal  string            // "": {"error":"invalid_grant"}
	code     string            // of the refusal; "": invalid_grant
	status   int               // of the refusal; 0: 400
	profile  map[string]string // answers by host and path
	callback url.Values        // beside code and state

	subject, name string
	refresh       string        // of the first answer; "": the brand gave none
	scope         string        // of the first answer
	lifetime      time.Duration // of the first answer; 0: it does not say
}

const (
	bearerHour = `{"access_token":"a1","refresh_token":"r1","token_type":"bearer","expires_in":3600}`
	lasting    = `{"access_token":"a1","token_type":"bearer"}`
	hour       = time.Hour
)

// shapes are by type; a type that can be OpenID and not has one of each.
func shapes() []shape {
	renewable := func(kind, subject, name, host, body string) shape {
		return shape{kind: kind, token: bearerHour, refresh: "r1", lifetime: hour, subject: subject, name: name,
			profile: map[string]string{host: body}}
	}
	all := []shape{
		renewable("amazon", "amzn1.1", "Alice", "api.amazon.com/user/profile",
			`{"user_id":"amzn1.1","name":"Alice","email":"a@example.com"}`),
		renewable("azuread", "alice@acme.example", "Alice", "graph.windows.net/me",
			`{"displayName":"Alice","name":"Alice","userPrincipalName":"alice@acme.example"}`),
		renewable("bitbucket", "{u-1}", "Alice", "api.bitbucket.org/2.0/user", `{"uuid":"{u-1}","display_name":"Alice"}`).
			with("api.bitbucket.org/2.0/user/emails", `{"values":[{"email":"a@example.com","is_primary":true,"is_confirmed":true}]}`),
		renewable("box", "11", "Alice", "api.box.com/2.0/users/me", `{"id":"11","name":"Alice","login":"a@example.com"}`).answering(
			`{"access_token":"a1","expires_in":3600,"restricted_to":[],"refresh_token":"r1","token_type":"bearer"}`),
		renewable("cloudfoundry", "u-1", "Alice", "uaa.acme.example/userinfo",
			`{"user_id":"u-1","name":"Alice","email":"a@example.com"}`).set("base_url", "uaa.acme.example"),
		renewable("dailymotion", "x1", "Alice", "api.dailymotion.com/me", `{"id":"x1","fullname":"Alice"}`),
		renewable("digitalocean", "u-1", "", "api.digitalocean.com/v2/account",
			`{"account":{"uuid":"u-1","email":"a@example.com"}}`).answering(
			`{"access_token":"a1","token_type":"bearer","expires_in":2592000,"refresh_token":"r1","scope":"read",`+
				`"info":{"uuid":"u-1"}}`).lasts(30*24*hour, "read"),
		renewable("discord", "80", "alice", "discord.com/api/users/@me", `{"id":"80","username":"alice","avatar":"x"}`).answering(
			`{"access_token":"a1","token_type":"Bearer","expires_in":604800,"refresh_token":"r1","scope":"identify email"}`).
			lasts(7*24*hour, "identify email"),
		renewable("eveonline", "9", "Alice", "login.eveonline.com/oauth/verify", `{"CharacterID":9,"CharacterName":"Alice"}`),
		renewable("fitbit", "F1", "Alice", "api.fitbit.com/1/user/-/profile.json", `{"user":{"fullName":"Alice"}}`).answering(
			`{"access_token":"a1","expires_in":28800,"refresh_token":"r1","scope":"profile","token_type":"Bearer",`+
				`"user_id":"F1"}`).lasts(8*hour, "profile").
			refuses(400, `{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid"}],"success":false}`, ""),
		renewable("gitea", "7", "Alice", "gitea.com/api/v1/user", `{"id":7,"full_name":"Alice"}`),
		renewable("heroku", "u-1", "Alice", "api.heroku.com/account", `{"id":"u-1","name":"Alice"}`),
		renewable("hubspot", "5", "", "api.hubapi.com/oauth/v1/access-tokens/a1",
			`{"token":"a1","user":"a@example.com","user_id":5}`).
			refuses(400, `{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}`, ""),
		renewable("kakao", "3", "alice", "kapi.kakao.com/v2/user/me", `{"id":3,"properties":{"nickname":"alice"}}`).answering(
			`{"access_token":"a1","token_type":"bearer","refresh_token":"r1","expires_in":21599,"scope":"profile",`+
				`"refresh_token_expires_in":5183999}`).
			lasts(21599*time.Second, "profile").refuses(400, `{"error":"invalid_grant",`+
			`"error_description":"expired_or_invalid_refresh_token","error_code":"KOE322"}`, ""),
		renewable("line", "U1", "Alice", "api.line.me/v2/profile", `{"userId":"U1","displayName":"Alice"}`),
		renewable("mailru", "44", "alice", "oauth.mail.ru/userinfo", `{"id":"44","nickname":"alice"}`).refuses(200,
			`{"error":"invalid token","error_code":7}`, ""),
		renewable("meetup", "6", "Alice", "api.meetup.com/2/member/self", `{"id":6,"name":"Alice"}`),
		renewable("microsoftonline", "g-1", "Alice", "graph.microsoft.com/v1.0/me", `{"id":"g-1","displayName":"Alice"}`),
		renewable("naver", "n1", "Alice", "openapi.naver.com/v1/nid/me", `{"resultcode":"00","response":{"id":"n1",`+
			`"name":"Alice"}}`).answering(
			`{"access_token":"a1","refresh_token":"r1","token_type":"bearer","expires_in":"3600"}`).refuses(200,
			`{"error":"invalid_request","error_description":"no"}`, "invalid_request"),
		renewable("nextcloud", "alice", "Alice", "cloud.acme.example/ocs/v2.php/cloud/user",
			`{"ocs":{"data":{"id":"alice","display-name":"Alice"}}}`).set("base_url", "https://cloud.acme.example/"),
		renewable("onedrive", "a@example.com", "Alice", "apis.live.net/v5.0/me",
			`{"name":"Alice","emails":{"account":"a@example.com"}}`),
		renewable("oura", "o1", "", "api.ouraring.com/v1/userinfo", `{"user_id":"o1","email":"a@example.com"}`),
		renewable("patreon", "12", "Alice", "www.patreon.com/api/oauth2/v2/identity",
			`{"data":{"id":"12","attributes":{"full_name":"Alice","created":"2020-01-01T00:00:00Z"}}}`),
		renewable("paypal", "https://www.paypal.com/u/1", "Alice",
			"www.sandbox.paypal.com/webapps/auth/protocol/openidconnect/v1/userinfo",
			`{"user_id":"https://www.paypal.com/u/1","name":"Alice"}`).set("base_url", "https://www.sandbox.paypal.com"),
		renewable("reddit", "t2", "alice", "oauth.reddit.com/api/v1/me", `{"id":"t2","name":"alice"}`).refuses(200,
			`{"error":"invalid_grant"}`, ""),
		renewable("seatalk", "s1", "Alice", "seatalkweb.com/webapp/oauth2/profile", `{"user_id":"s1","name":"Alice"}`),
		renewable("soundcloud", "8", "Alice", "api.soundcloud.com/me", `{"id":8,"full_name":"Alice"}`),
		renewable("spotify", "alice", "Alice", "api.spotify.com/v1/me", `{"id":"alice","display_name":"Alice"}`),
		renewable("strava", "21", "Alice Example", "www.strava.com/api/v3/athlete",
			`{"id":21,"firstname":"Alice","lastname":"Example"}`).answering(
			`{"token_type":"Bearer","expires_at":1900000000,"expires_in":21600,"refresh_token":"r1","access_token":"a1",`+
				`"athlete":{"id":21}}`).lasts(6*hour, "").
			refuses(400, `{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token",`+
				`"code":"invalid"}]}`, ""),
		renewable("tiktok", "open-1", "Alice", "open.tiktokapis.com/v2/user/info/",
			`{"data":{"user":{"open_id":"open-1","display_name":"Alice"}},"error":{"code":"ok","message":""}}`).answering(
			`{"access_token":"a1","expires_in":86400,"open_id":"open-1","refresh_expires_in":31536000,"refresh_token":"r1",`+
				`"scope":"user.info.basic","token_type":"Bearer"}`).
			lasts(24*hour, "user.info.basic").refuses(200, `{"error":"invalid_grant",`+
			`"error_description":"Refresh token is invalid or expired.","log_id":"1"}`, ""),
		renewable("typetalk", "31", "Alice", "typetalk.com/api/v1/profile", `{"account":{"name":"alice"}}`).
			with("typetalk.com/api/v1/accounts/profile/alice", `{"account":{"id":31,"name":"alice","fullName":"Alice"}}`),
		renewable("uber", "u-1", "Alice", "api.uber.com/v1/me", `{"uuid":"u-1","first_name":"Alice"}`),
		renewable("x", "2244", "Alice", "api.x.com/2/users/me", `{"data":{"id":"2244","name":"Alice","username":"alice"}}`).answering(
			`{"token_type":"bearer","expires_in":7200,"access_token":"a1","scope":"tweet.read users.read offline.access",`+
				`"refresh_token":"r1"}`).
			lasts(2*hour, "tweet.read users.read offline.access").refuses(400, `{"error":"invalid_request",`+
			`"error_description":"Value passed for the token was invalid."}`, ""),
		renewable("yandex", "1130", "Alice", "login.yandex.ru/info", `{"id":"1130","real_name":"Alice"}`),
		renewable("zoom", "z1", "Alice Example", "zoom.us/v2/users/me", `{"id":"z1","first_name":"Alice",`+
			`"last_name":"Example"}`).refuses(401, `{"reason":"Invalid Token!","error":"invalid_request"}`, ""),
	}
	return append(append(all, lastingShapes()...), oddShapes()...)
}

func (s shape) answering(token string) shape { s.token = token; return s }

func (s shape) refuses(status int, body, code string) shape {
	s.status, s.refusal, s.code = status, body, code
	return s
}

func (s shape) lasts(lifetime time.Duration, scope string) shape {
	s.lifetime, s.scope = lifetime, scope
	return s
}

func (s shape) with(at, body string) shape { s.profile[at] = body; return s }

func (s shape) set(name, value string) shape {
	s.extra = map[string]string{name: value}
	return s
}

// lastingShapes are the brands that give no refresh token.
func lastingShapes() []shape {
	once := func(kind, token, subject, name, host, body string) shape {
		return shape{kind: kind, token: token, subject: subject, name: name, profile: map[string]string{host: body}}
	}
	return []shape{
		once("battlenet", `{"access_token":"a1","token_type":"bearer","expires_in":86399,"scope":"openid"}`, "9", "alice#1",
			"us.battle.net/oauth/userinfo", `{"id":9,"battletag":"alice#1"}`).
			lasts(86399*time.Second, "openid"),
		once("bitly", lasting, "alice", "Alice", "api-ssl.bitly.com/v4/user",
			`{"login":"alice","name":"Alice","emails":[{"email":"a@example.com","is_primary":true,"is_verified":true}]}`),
		once("classlink", lasting, "4", "Alice", "nodeapi.classlink.com/v2/my/info", `{"UserId":4,"DisplayName":"Alice"}`),
		once("deezer", `{"access_token":"a1","expires":3600}`, "2", "alice", "api.deezer.com/user/me",
			`{"id":2,"name":"alice"}`).lasts(hour, ""),
		once("facebook", `{"access_token":"a1","token_type":"bearer","expires_in":5183944}`, "10", "Alice",
			"graph.facebook.com/me", `{"id":"10","name":"Alice"}`).lasts(5183944*time.Second, ""),
		once("influxcloud", lasting, "3", "Alice", "influx.acme.example/api/v1/user", `{"id":3,"name":"Alice"}`).set("domain",
			"influx.acme.example"),
		once("instagram", `{"access_token":"a1","user":{"id":"1"}}`, "1", "Alice", "api.instagram.com/v1/users/self/",
			`{"data":{"id":"1","full_name":"Alice"}}`),
		once("intercom", `{"token_type":"Bearer","token":"a1","access_token":"a1"}`, "i1", "Alice", "api.intercom.io/me",
			`{"id":"i1","name":"Alice","email":"a@example.com"}`),
		once("mastodon", `{"access_token":"a1","token_type":"Bearer","scope":"read","created_at":1}`, "14", "Alice",
			"social.acme.example/api/v1/accounts/verify_credentials", `{"id":"14","display_name":"Alice"}`).
			lasts(0, "read").set("base_url", "social.acme.example"),
		once("vk", `{"access_token":"a1","expires_in":86400,"user_id":66748,"email":"a@example.com"}`, "66748", "alice",
			"api.vk.com/method/users.get", `{"response":[{"id":66748,"nickname":"alice"}]}`).lasts(24*hour, ""),
		once("wepay", `{"user_id":1,"access_token":"a1","token_type":"BEARER"}`, "1", "alice", "wepayapi.com/v2/user",
			`{"user_id":1,"user_name":"alice"}`),
		once("yammer", `{"access_token":{"token":"a1","user_id":5},"user":{"id":5}}`, "5", "Alice",
			"www.yammer.com/api/v1/users/current.json", `{"id":5,"full_name":"Alice"}`),
		once("slack", `{"ok":true,"access_token":"a1","scope":"users:read","user_id":"U1","team_id":"T1"}`, "U1", "Alice",
			"slack.com/api/auth.test", `{"ok":true,"user_id":"U1","user":"alice"}`).
			with("slack.com/api/users.info", `{"ok":true,"user":{"id":"U1","name":"alice","profile":{"real_name":"Alice"}}}`).
			lasts(0, "users:read").asking("users:read"),
	}
}

func (s shape) asking(scopes ...string) shape { s.scopes = scopes; return s }
