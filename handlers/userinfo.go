package handlers

import (
	"bytes"
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
	shown := views.Exchange{Method: http.MethodGet, URL: "userinfo"}
	if !view.Grant.Tokens.ValidAt(a.Now()) {
		shown.Error = "The access token has expired and could not be renewed; it was not sent."
		return a.part(c, view, "Try it", views.ExchangeAnswer(shown))
	}
	answer, err := inspector.UserInfo(c.Request().Context(), view.Grant.Tokens)
	switch {
	case errors.Is(err, provider.ErrNotOffered):
		shown.Error = a.label(view.Grant) + " has no userinfo endpoint."
	case err != nil:
		shown.Error = a.unanswered(c, view.Grant, "userinfo", err)
	case ofSomebodyElse(view.Grant.Identity, answer.Body):
		a.Log.ErrorContext(c.Request().Context(), "security: userinfo is about somebody else", "grant", view.Grant.ID)
		shown.Error = "The answer is about somebody else (its sub is not the one that signed in), and is not shown. " +
			"Nothing that uses this endpoint may use it either (OpenID Connect Core section 5.3.2)."
	default:
		shown = views.Exchange{
			Method: answer.Method, URL: answer.URL, Status: answer.Status, StatusText: http.StatusText(answer.Status), Took: answer.Took,
			Type: answer.Type, Challenge: cut(answer.Challenge, 1000), Reason: challengeWords(answer.Challenge),
			Body: readable(answer.Type, answer.Body), Cut: answer.Cut,
		}
	}
	return a.part(c, view, "Try it", views.ExchangeAnswer(shown))
}

// ofSomebodyElse says that an answer names another person than the one who signed in at an OpenID provider.
func ofSomebodyElse(signedIn auth.Identity, body string) bool {
	claims, _ := auth.ParseClaims(body)
	subject, ok := claims["sub"]
	return ok && signedIn.OpenID() && fmt.Sprint(subject) != signedIn.Subject
}

// readable is a body as people read it: JSON is indented.
func readable(contentType, body string) string {
	body = strings.ToValidUTF8(body, "\uFFFD")
	var indented bytes.Buffer
	if strings.Contains(contentType, "json") && json.Indent(&indented, []byte(body), "", "  ") == nil {
		return indented.String()
	}
	return body
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
