package tokenendpoint

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"keyturn/auth"
)

// maxDetail bounds what is kept of a provider's own words.
const maxDetail = 200

// read turns a response into tokens, or an *auth.ProviderError. The error code counts, not the status.
func read(r *response, now time.Time) (auth.Answer, error) {
	params := parse(r)
	answer := auth.Answer{
		Access: auth.Secret(params.text("access_token")), Refresh: auth.Secret(params.text("refresh_token")),
		ID: auth.Secret(params.text("id_token")), Type: params.text("token_type"), Scope: params.scope(),
		Lifetime: params.seconds("expires_in"),
	}
	answer.RefreshLifetime, answer.RefreshNeverExpires = params.refreshLifetime()
	failure := auth.Failure{Status: r.status, Code: params.text("error"), Detail: params.text("error_description")}
	refuse := func(delivery auth.Delivery, code string) (auth.Answer, error) {
		if code != "" {
			failure.Code = code
		}
		refusal := &auth.ProviderError{Delivery: delivery, Failure: failure, RetryAfter: retryAfter(r.header, now)}
		if answer.Refresh != "" {
			salvage := answer
			refusal.Salvage = &salvage
		}
		return auth.Answer{}, refusal
	}
	failure.Code = clean(failure.Code)
	switch {
	case failure.Code != "":
		return refuse(auth.DeliveryAnswered, "")
	case r.status/100 == 3:
		return refuse(auth.DeliveryAnswered, auth.CodeRedirect)
	case r.status == http.StatusTooManyRequests:
		return refuse(auth.DeliveryAnswered, auth.CodeRateLimited)
	case r.status/100 != 2 && len(params) == 0, r.status/100 != 2 && answer.Access == "":
		failure.Detail = "HTTP status " + strconv.Itoa(r.status)
		return refuse(auth.DeliveryAnswered, auth.CodeHTTPStatus)
	case len(params) == 0 && r.err != nil:
		return refuse(auth.DeliveryUnknown, auth.CodeCutOff)
	case len(params) == 0:
		return refuse(auth.DeliveryUnknown, auth.CodeUnreadable)
	case answer.Access == "":
		return refuse(auth.DeliveryAnswered, auth.CodeNoAccessToken)
	case answer.Type != "" && !strings.EqualFold(answer.Type, "Bearer") && !strings.EqualFold(answer.Type, "DPoP"):
		failure.Detail = "token_type " + clean(answer.Type)
		return refuse(auth.DeliveryAnswered, auth.CodeTokenType)
	default:
		return answer, nil
	}
}

// parameters are the members of a token answer, decoded from JSON or from a form.
type parameters map[string]any

// parse reads a body by what it is, not by what its label says: JSON comes as text/plain, GitHub answers with a form.
// Without any known member it returns nil.
func parse(r *response) parameters {
	body := bytes.TrimLeftFunc(bytes.TrimPrefix(r.body, []byte("\uFEFF")), unicode.IsSpace)
	var params parameters
	if bytes.HasPrefix(body, []byte("{")) {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		if decoder.Decode(&params) != nil {
			return nil
		}
	} else if form, err := url.ParseQuery(strings.TrimSpace(string(body))); err == nil && r.err == nil {
		params = parameters{}
		for name := range form {
			params[name] = form.Get(name)
		}
	}
	for _, name := range []string{"access_token", "refresh_token", "id_token", "error"} {
		if params.text(name) != "" {
			return params
		}
	}
	return nil
}

// text is a member that is a string, else "".
func (p parameters) text(name string) string {
	s, _ := p[name].(string)
	return strings.TrimSpace(s)
}

// scope is the member scope, which Twitch writes as a list.
func (p parameters) scope() string {
	list, ok := p["scope"].([]any)
	if !ok {
		return p.text("scope")
	}
	var scopes []string
	for _, one := range list {
		if s, ok := one.(string); ok {
			scopes = append(scopes, s)
		}
	}
	return strings.Join(scopes, " ")
}

// number is a member that is a number in any notation, or a string with one.
func (p parameters) number(name string) (float64, bool) {
	text := p.text(name)
	if n, ok := p[name].(json.Number); ok {
		text = n.String()
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
}

// seconds is a positive duration given in seconds, 0 if it is absent, unreadable or absurd.
func (p parameters) seconds(name string) time.Duration {
	f, ok := p.number(name)
	if !ok || f <= 0 {
		return 0
	}
	const most = 100 * 365 * 24 * time.Hour
	if f >= most.Seconds() {
		return most
	}
	return time.Duration(f * float64(time.Second))
}

// refreshLifetime reads what providers say about the refresh token's end, which no RFC has a name for. Keycloak's
// refresh_expires_in is 0 for offline tokens, which never end.
func (p parameters) refreshLifetime() (lifetime time.Duration, never bool) {
	for _, name := range []string{"refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"} {
		if d := p.seconds(name); d > 0 {
			return d, false
		}
	}
	zero, ok := p.number("refresh_expires_in")
	return 0, ok && zero == 0
}

// retryAfter reads the header's seconds or date (RFC 9110 section 10.2.3); 0 when there is none.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return time.Duration(min(max(seconds, 0), int64(24*time.Hour/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now))
}

// clean is a provider's own words as far as they are kept.
func clean(text string) string { return auth.Foreign(text, maxDetail) }
