package handlers

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/views"
)

// canTry says whether the grant's provider has a userinfo endpoint, as far as is known.
func (a *app) canTry(g *auth.Grant) bool {
	inspector, ok := a.inspector(g)
	if !ok {
		return false
	}
	offers, known := inspector.Offered()
	return offers.UserInfo || !known
}

// callUserInfo calls the provider's userinfo endpoint with the present access token and shows the answer as it is.
func (a *app) callUserInfo(c echo.Context) error {
	view, err := a.signedIn(c)
	if err != nil {
		return err
	}
	inspector, ok := a.inspector(view.Grant)
	if !ok {
		return echo.ErrNotFound
	}
	if !view.Grant.Tokens.ValidAt(a.Now()) {
		return a.part(c, view, "Try it", "", views.ExchangeAnswer(views.Exchange{
			Method: http.MethodGet, URL: "userinfo", Failed: "Not sent", Error: "The access token has expired and could not be renewed.",
		}, !isHTMX(c)))
	}
	answer, err := inspector.UserInfo(c.Request().Context(), view.Grant.Tokens)
	shown := views.Exchange{Method: answer.Method, URL: cmp.Or(answer.URL, "userinfo"), Took: answer.Took}
	switch {
	case errors.Is(err, provider.ErrNotOffered):
		shown.Took, shown.Failed, shown.Error = 0, "Not sent", a.named(view.Grant)+" has no userinfo endpoint."
	case err != nil:
		shown.Failed = "No answer"
		words, whose := a.unanswered(c, view.Grant, "userinfo", err)
		shown.Error, shown.Whose = words, string(whose)
	case ofSomebodyElse(view.Grant.Identity, answer.Body):
		a.Log.ErrorContext(c.Request().Context(), "security: userinfo is about somebody else", "grant", view.Grant.ID)
		shown.Failed, shown.Whose = "Not shown", string(auth.PartyProvider)
		shown.Error = "The answer is about somebody else: its sub is not the one that signed in. " +
			"Nothing that uses this endpoint may use it either (OpenID Connect Core section 5.3.2)."
	default:
		shown.Status, shown.StatusText, shown.Type = answer.Status, http.StatusText(answer.Status), answer.Type
		shown.Challenge, shown.Reason = cut(answer.Challenge, 1000), challengeWords(answer.Challenge)
		shown.Body = readable(answer.Type, answer.Body, answer.Cut || answer.Broken)
		shown.Size, shown.Cut, shown.Broken, shown.Late = answer.Size, answer.Cut, answer.Broken, answer.Late
		if shown.Reason == "" && namesNobody(view.Grant.Identity, answer) {
			shown.Reason = "The answer names no sub, as it must: its claims are not used (OpenID Connect Core section 5.3.2)."
		}
	}
	return a.part(c, view, "Try it", "", views.ExchangeAnswer(shown, !isHTMX(c)))
}

// ofSomebodyElse says that an answer names another person than the one who signed in at an OpenID provider.
func ofSomebodyElse(signedIn auth.Identity, body string) bool {
	subject, ok := claimsIn(body)["sub"]
	return ok && signedIn.OpenID() && fmt.Sprint(subject) != signedIn.Subject
}

// namesNobody says that an answer has claims, whole, of nobody knows whom, and is an OpenID provider's.
func namesNobody(signedIn auth.Identity, answer provider.HTTPAnswer) bool {
	claims := claimsIn(answer.Body)
	_, ok := claims["sub"]
	return answer.Status == http.StatusOK && signedIn.OpenID() && claims != nil && !ok
}

// claimsIn is what an answer claims, plain or signed (OpenID Connect Core section 5.3.2); who signed it, if anybody, is not looked at.
func claimsIn(body string) map[string]any {
	if jwt, ok := auth.ParseJWT(auth.Secret(strings.TrimSpace(body))); ok {
		return jwt.Claims
	}
	claims, _ := auth.ParseClaims(body)
	return claims
}

// readable is a body as people read it: JSON is indented, also where it stops short.
func readable(contentType, body string, short bool) string {
	body = strings.ToValidUTF8(body, "\uFFFD")
	if strings.Contains(contentType, "json") && (json.Valid([]byte(body)) || short && strings.ContainsAny(body[:min(len(body), 1)], "{[")) {
		return indented(body)
	}
	return body
}

// deepest is how deep JSON is indented: each line of a body that is all brackets would be longer than the one before.
const deepest = 40

// indented is JSON, whole or as far as it goes, with a line for each member. What the lines hold stays as it is.
func indented(body string) string {
	var b strings.Builder
	depth := 0
	line := func() { b.WriteString("\n" + strings.Repeat("  ", max(0, min(depth, deepest)))) }
	for i := 0; i < len(body); i++ {
		switch c := body[i]; c {
		case '"':
			begin := i
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
			b.WriteString(body[begin:min(i+1, len(body))])
		case ' ', '\t', '\r', '\n':
		case '{', '[':
			b.WriteByte(c)
			rest := strings.TrimLeft(body[i+1:], " \t\r\n")
			if strings.HasPrefix(rest, "}") || strings.HasPrefix(rest, "]") {
				b.WriteByte(rest[0])
				i = len(body) - len(rest)
				continue
			}
			depth++
			line()
		case '}', ']':
			depth--
			line()
			b.WriteByte(c)
		case ',':
			b.WriteByte(c)
			line()
		case ':':
			b.WriteString(": ")
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// challengeWords says what a WWW-Authenticate header means (RFC 6750 section 3, RFC 9449 section 7.1).
func challengeWords(challenge string) string {
	if challenge == "" {
		return ""
	}
	params := challengeParams(challenge)
	said := map[string]string{
		"invalid_token":                    "The access token is expired, revoked or malformed.",
		"insufficient_scope":               "The access token does not allow this.",
		"invalid_request":                  "The request is not what the endpoint expects.",
		"use_dpop_nonce":                   "The endpoint wants a proof of possession with its nonce.",
		"invalid_dpop_proof":               "The endpoint wants a proof of possession that fits the token.",
		"insufficient_user_authentication": "The endpoint wants a stronger or fresher sign-in.",
	}[params["error"]]
	switch {
	case said == "" && params["error"] == "":
		said = "The endpoint asks for credentials."
	case said == "":
		said = "The endpoint says " + cut(params["error"], 100) + "."
	}
	if params["scope"] != "" {
		said += " It asks for the scope " + cut(params["scope"], 200) + "."
	}
	if params["error_description"] != "" {
		said += " “" + cut(params["error_description"], 300) + "”"
	}
	return said
}

// challengeParams are the auth-params of a challenge (RFC 9110 section 11.2), of the first challenge that says a thing.
func challengeParams(challenge string) map[string]string {
	params := map[string]string{}
	_, rest, _ := strings.Cut(strings.TrimSpace(challenge), " ")
	for rest != "" {
		name, value, found := strings.Cut(rest, "=")
		if !found {
			break
		}
		fields := strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == ',' })
		if len(fields) > 0 {
			name = strings.ToLower(fields[len(fields)-1])
		}
		value = strings.TrimLeft(value, " ")
		if strings.HasPrefix(value, `"`) {
			value, rest = quoted(value[1:])
		} else {
			value, rest, _ = strings.Cut(value, ",")
		}
		if _, known := params[name]; !known {
			params[name] = strings.TrimSpace(value)
		}
	}
	return params
}

// quoted reads a quoted-string whose first quote has been read, and returns what follows it.
func quoted(text string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if i++; i < len(text) {
				b.WriteByte(text[i])
			}
		case '"':
			return b.String(), text[i+1:]
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String(), ""
}
