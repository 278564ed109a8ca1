package tokenendpoint

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"html"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"keyturn/auth"
)

const (
	maxDetail    = 200      // characters that are kept of a provider's own words
	longestCode  = 60       // bytes of an error code; longer than any that there is
	maxBeginning = 16 << 10 // bytes of an answer without an error code that are looked through for them
)

// read turns a response into tokens, or an *auth.ProviderError, whose words are whole as the provider wrote them. The error code counts,
// not the status.
func read(r *response, now time.Time) (auth.Answer, error) {
	params, readable := parse(r)
	answer := auth.Answer{
		Access: params.token("access_token"), Refresh: params.token("refresh_token"),
		ID: auth.Secret(params.text("id_token")), Type: params.text("token_type"), Scope: params.scope(),
		Lifetime: params.seconds("expires_in"), BrokeOff: r.brokeOff,
	}
	answer.RefreshLifetime, answer.RefreshNeverExpires = params.refreshLifetime()
	r.secrets = append(r.secrets, answer.Secrets()...)
	if auth.Holds(answer.Scope, r.secrets...) {
		answer.Scope = auth.Redact(answer.Scope, r.secrets...)
	}
	failure := auth.Failure{Status: r.status}
	failure.Code, failure.Detail = params.refusal()
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
	switch {
	case clean(failure.Code) != "":
		return refuse(auth.DeliveryAnswered, "")
	case r.status/100 == 3:
		return refuse(auth.DeliveryAnswered, auth.CodeRedirect)
	case r.status == http.StatusTooManyRequests, r.status/100 != 2 && answer.Access == "":
		failure.Said, failure.Detail = cmp.Or(failure.Detail, r.beginning()), "HTTP status "+strconv.Itoa(r.status)
		if r.status == http.StatusTooManyRequests {
			return refuse(auth.DeliveryAnswered, auth.CodeRateLimited)
		}
		return refuse(auth.DeliveryAnswered, auth.CodeHTTPStatus)
	case !readable && r.err != nil && !errors.Is(r.err, errTooLong):
		return refuse(auth.DeliveryUnknown, auth.CodeCutOff)
	case !readable:
		return refuse(auth.DeliveryUnknown, auth.CodeUnreadable)
	case answer.Access == "" && r.err != nil && !errors.Is(r.err, errTooLong):
		return refuse(auth.DeliveryAnswered, auth.CodeCutOff)
	case answer.Access == "":
		return refuse(auth.DeliveryAnswered, auth.CodeNoAccessToken)
	case answer.Type != "" && !strings.EqualFold(answer.Type, "Bearer") && !strings.EqualFold(answer.Type, "DPoP"):
		failure.Detail = "token_type " + answer.Type
		return refuse(auth.DeliveryAnswered, auth.CodeTokenType)
	case !params.textOrNone("token_type"):
		failure.Detail = "token_type is no text"
		return refuse(auth.DeliveryAnswered, auth.CodeTokenType)
	default:
		return answer, nil
	}
}

// parameters are the members of a token answer, decoded from JSON or from a form.
type parameters map[string]any

// parse reads a body by what it is, not by what its label says: JSON comes as text/plain, GitHub answers with a form. Of one that broke off
// comes what came whole, and an error code is the provider's word also where its description is not readable any more.
func parse(r *response) (params parameters, readable bool) {
	body := bytes.TrimFunc(r.body, unicode.IsSpace)
	if bytes.HasPrefix(body, []byte("{")) {
		_, _, whole := leading(body)
		params, ended := members(body, whole)
		r.brokeOff = !whole && !ended
		return params, (whole || params.usable(ended)) && params.legible()
	}
	if !isForm(body) {
		return nil, false
	}
	if r.brokeOff = r.err != nil; r.brokeOff {
		body = body[:bytes.LastIndexByte(body, '&')+1] // before it all came whole
	}
	form, err := url.ParseQuery(string(body)) // what can be read comes with the error
	if err != nil && !form.Has("refresh_token") && !form.Has("error") && bytes.Contains(body, []byte("refresh_token=")) {
		return nil, false // a new one that cannot be read is not the same as none
	}
	params = parameters{}
	for name, values := range form {
		params[name] = values[0]
		if isToken(name) {
			params[name] = cmp.Or(values...)
		}
	}
	if status := r.status / 100; (status == 3 || status == 5) && params.token("refresh_token") == "" {
		return nil, false
	}
	return params, params.usable(!r.brokeOff) && params.legible()
}

// legible says whether the tokens can be read: one in which pairs follow on lines of their own is none, but more than one value. For the access
// token alone no new refresh token is to be lost.
func (p parameters) legible() bool {
	garbled := func(name string) bool { return p.text(name) != "" && p.token(name) == "" }
	return !garbled("refresh_token") && (!garbled("access_token") || p.token("refresh_token") != "")
}

// usable says whether parameters, or those that came of an answer that broke off, are of use. Of those nothing is without a new refresh token,
// nor an access token of which nobody knows how long it lives.
func (p parameters) usable(ended bool) bool {
	if _, timed := p["expires_in"]; !ended && !timed {
		delete(p, "access_token")
	}
	return ended && p.tell() || p.token("refresh_token") != ""
}

// tell says whether parameters are of a token answer, and no others'.
func (p parameters) tell() bool {
	return slices.ContainsFunc([]string{"access_token", "refresh_token", "id_token", "error"}, func(name string) bool { return p.text(name) != "" })
}

// isForm tells a form from a page or a line of text, in which a link may stand that would read like one. In one with a token, or that begins with
// an error, there may be spaces and brackets that somebody left as they are.
func isForm(body []byte) bool {
	name, _, pair := bytes.Cut(body, []byte("="))
	tells := bytes.HasPrefix(body, []byte("error=")) || slices.ContainsFunc([]string{"access_token=", "refresh_token="}, func(name string) bool {
		return bytes.HasPrefix(body, []byte(name)) || bytes.Contains(body, []byte("&"+name))
	})
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_-.", c)
	}
	return pair && len(name) > 0 && !bytes.ContainsFunc(name, odd) &&
		(tells || !bytes.ContainsFunc(body, func(c rune) bool { return c == '<' || c == '>' || unicode.IsSpace(c) || unicode.IsControl(c) }))
}

// text is a member that is a string, else "".
func (p parameters) text(name string) string {
	s, _ := p[name].(string)
	return strings.TrimSpace(s)
}

// refusal is the code and the description of an error (RFC 6749 section 5.2), also as those write it who do not keep to that: in an object,
// or under names of their own.
func (p parameters) refusal() (code, detail string) {
	if inner, is := p["error"].(map[string]any); is {
		own := parameters(inner)
		code := own.text("code")
		if number, is := inner["code"].(json.Number); is { // Meta's
			code = number.String()
		}
		return code, own.text("message")
	}
	if own := p.text("error_code"); p.text("error") == "" && own != "" && own != "0" {
		return own, p.description()
	}
	return p.text("error"), p.description()
}

// description is what an error says for people: that of RFC 6749 section 5.2, or what frameworks and RFC 9457 have in its place.
func (p parameters) description() string {
	return cmp.Or(p.text("error_description"), p.text("message"), p.text("msg"), p.text("detail"), p.text("title"))
}

var (
	pageTitle = regexp.MustCompile(`(?is)<title[^>]*>([^<]*)`)
	// tokenMember and tokenRun are what gives a token away that was not read as one, such as in an answer that breaks off. A run is without
	// spaces, quotes, brackets and commas.
	tokenMember = regexp.MustCompile(`(?is)((?:access|refresh|id)[_-]?token(?:\\*["']\s*:\s*(?:\\*["']|\d)|\s*[:=>]|%3d)).*`)
	tokenRun    = regexp.MustCompile(`[!#-&*+\--;=?-Z\\^_a-z|~]{20,}`)
	// longHex and tokenAlike are what is hardly anything else: no word, no address, and no identifier, which is shorter, or has no capitals
	// among small letters.
	longHex    = regexp.MustCompile(`[0-9A-Fa-f]{40,}`)
	tokenAlike = regexp.MustCompile(`[A-Za-z0-9_~+=.!$*|-]{32,}`)
)

// withoutTokens cuts off a text before a token that nobody knows, and leaves out what may be one: a long run of letters and digits.
func withoutTokens(text string) string {
	return tokenMember.ReplaceAllString(without(tokenRun, text, unicode.IsDigit, unicode.IsLetter), "$1 …")
}

// withoutTokensAlike leaves out of a description, whose every word may be what helps, only what has the shape of a token.
func withoutTokensAlike(text string) string {
	return without(tokenAlike, without(longHex, text, unicode.IsDigit, unicode.IsLetter), unicode.IsDigit, unicode.IsUpper, unicode.IsLower)
}

// codeWithoutTokens leaves out of an error code what has the shape of a token, and, of what is too long for a code, what may be one.
func codeWithoutTokens(code string) string {
	if len(code) > longestCode {
		return withoutTokens(code)
	}
	return withoutTokensAlike(code)
}

// without leaves out the runs of a text that have characters of each kind.
func without(runs *regexp.Regexp, text string, kinds ...func(rune) bool) string {
	return runs.ReplaceAllStringFunc(text, func(run string) string {
		for _, kind := range kinds {
			if !strings.ContainsFunc(run, kind) {
				return run
			}
		}
		return "…"
	})
}

// beginning is how the body of an error begins, for the log, or the title if it is a page. It is not redacted yet.
func (r *response) beginning() string {
	if r.status < http.StatusBadRequest {
		return ""
	}
	text := html.UnescapeString(string(r.body[:min(len(r.body), maxBeginning)]))
	if title := pageTitle.FindStringSubmatch(text); title != nil {
		text = title[1]
	}
	return text
}

// pairBehind is where in a text another pair of a form begins. The end of base64 that was broken into lines, which may be of a token, is none.
var pairBehind = regexp.MustCompile(`[[:cntrl:]] *[a-z_]+=[^=\s]`)

// token is a member that is a token: text without other pairs in it, or a number that somebody left without quotes. It is to be presented as it
// came.
func (p parameters) token(name string) auth.Secret {
	if number, ok := p[name].(json.Number); ok && number != "0" {
		return auth.Secret(number)
	}
	if p.text(name) == "" {
		return ""
	}
	text := strings.Trim(p[name].(string), "\r\n\t") // a space may be of it (RFC 6749 appendix A.17)
	if pairBehind.MatchString(text) {
		return ""
	}
	return auth.Secret(text)
}

// textOrNone says that a member is a string, null, or not there.
func (p parameters) textOrNone(name string) bool {
	_, text := p[name].(string)
	return text || p[name] == nil
}

// scope is the member scope, which Twitch writes as a list. It is stored in the clear, and what no database takes is not of it in any case
// (RFC 6749 section 3.3).
func (p parameters) scope() string {
	list, ok := p["scope"].([]any)
	if !ok {
		list = []any{p["scope"]}
	}
	var scopes []string
	for _, one := range list {
		if s, ok := one.(string); ok {
			scopes = append(scopes, s)
		}
	}
	return strings.TrimSpace(auth.Storable(strings.Join(scopes, " ")))
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

// seconds is a duration given in seconds, 0 if it is absent, none, unreadable or absurd. Less than a second is taken for a whole one: a
// token set that is over as it comes would be renewed without a pause.
func (p parameters) seconds(name string) time.Duration {
	f, ok := p.number(name)
	if !ok || f <= 0 {
		return 0
	}
	const most = 100 * 365 * 24 * time.Hour
	if f >= most.Seconds() {
		return most
	}
	return time.Duration(max(f, 1) * float64(time.Second))
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

// retryAfter reads the header's seconds or date (RFC 9110 section 10.2.3), the latter by the clock that wrote it if the answer tells that; 0 when
// there is none.
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
	if sent, err := http.ParseTime(header.Get("Date")); err == nil {
		now = sent
	}
	return max(0, at.Sub(now))
}

// clean is a provider's own words as far as they are kept.
func clean(text string) string { return auth.Foreign(text, maxDetail) }
