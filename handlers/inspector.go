package handlers

import (
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/views"
)

// inspector is what the grant's provider can be asked about its tokens.
func (a *app) inspector(g *auth.Grant) (provider.Inspector, bool) {
	p, ok := a.Providers.Of(g.Identity)
	if !ok {
		return nil, false
	}
	inspector, ok := p.(provider.Inspector)
	return inspector, ok
}

// tokenOf is the grant's token of a kind, and what the one before it said.
func tokenOf(g *auth.Grant, kind string) (token auth.Secret, former string, ok bool) {
	switch kind {
	case "access":
		if g.Tokens.None() {
			return "", "", true
		}
		return g.Tokens.Access, g.Former.Access, true
	case "refresh":
		return g.Tokens.Refresh, g.Former.Refresh, true
	case "id":
		return g.Tokens.ID, g.Former.ID, true
	default:
		return "", "", false
	}
}

// panel looks into the token that the request names. The token itself is not in what it returns.
func (a *app) panel(c echo.Context) (views.TokenPanel, auth.View, error) {
	view, err := a.signedIn(c)
	if err != nil {
		return views.TokenPanel{}, view, err
	}
	kind := c.Param("kind")
	token, before, ok := tokenOf(view.Grant, kind)
	if !ok {
		return views.TokenPanel{}, view, echo.ErrNotFound
	}
	p := views.TokenPanel{
		Kind: kind, Generation: view.Grant.Generation, Fingerprint: token.Fingerprint(), Length: utf8.RuneCountInString(token.Reveal()),
		Withheld: !a.ExposeTokens,
	}
	jwt, isJWT := auth.ParseJWT(token)
	p.JWT, p.Encrypted = isJWT, jwt.Encrypted
	if p.Withheld || token == "" {
		return p, view, nil
	}
	if inspector, ok := a.inspector(view.Grant); ok {
		offers, err := inspector.Offers(c.Request().Context())
		p.CanIntrospect = err == nil && offers.Introspection && kind != "id"
	}
	if !isJWT {
		return p, view, nil
	}
	former, known := auth.ParseClaims(before)
	p.FormerKnown = known
	p.Header, p.Claims = views.HeaderOf(jwt.Header, jwt.Encrypted), views.ClaimsOf(jwt.Claims, former)
	return p, view, nil
}

// inspectToken shows what a token says.
func (a *app) inspectToken(c echo.Context) error {
	p, view, err := a.panel(c)
	if err != nil {
		return err
	}
	return a.showPanel(c, view, p)
}

// showPanel shows a panel. Its signature is checked by a request of its own where there is a script.
func (a *app) showPanel(c echo.Context, view auth.View, p views.TokenPanel) error {
	if !isHTMX(c) && p.JWT && !p.Withheld {
		said := a.signature(c, view.Grant, p.Kind)
		p.Signature = &said
	}
	return a.part(c, view, "Inspector", "inspector-body", views.TokenInspection(p, a.Now()))
}

// checkSignature says whether a token's signature is right, and with which key.
func (a *app) checkSignature(c echo.Context) error {
	p, view, err := a.panel(c)
	if err != nil {
		return err
	}
	if p.Withheld || !p.JWT {
		return echo.ErrNotFound
	}
	return a.part(c, view, "Signature", "", views.SignatureWords(a.signature(c, view.Grant, p.Kind)))
}

func (a *app) signature(c echo.Context, g *auth.Grant, kind string) views.Signature {
	token, _, _ := tokenOf(g, kind)
	jwt, _ := auth.ParseJWT(token)
	if jwt.Encrypted {
		return views.Signature{State: "unknown", Text: "not checked: it is encrypted, and only whom it is meant for can check it"}
	}
	inspector, ok := a.inspector(g)
	if !ok {
		return views.Signature{State: "unknown", Text: "not checked: this provider's keys are not known"}
	}
	text := func(name string) string { s, _ := jwt.Header[name].(string); return cut(s, 60) }
	switch err := inspector.CheckSignature(c.Request().Context(), token); {
	case err == nil && text("kid") != "":
		return views.Signature{State: "good", Text: "verified with " + a.named(g) + "'s key " + text("kid")}
	case err == nil:
		return views.Signature{State: "good", Text: "verified with " + a.named(g) + "'s key"}
	case errors.Is(err, provider.ErrNotSigned) && strings.HasPrefix(text("alg"), "HS"):
		return views.Signature{State: "unknown", Text: "not checked: it is signed with a secret (" + text("alg") + "), not with a published key"}
	case errors.Is(err, provider.ErrNotSigned):
		return views.Signature{State: "bad", Text: "not signed"}
	case errors.Is(err, provider.ErrNoKeyFits):
		return views.Signature{State: "bad", Text: "not verified: none of " + a.named(g) + "'s published keys fits"}
	case errors.Is(err, provider.ErrKeysResting):
		return views.Signature{State: "bad", Text: "not verified: none of the keys fits that " + a.named(g) + " published a moment ago"}
	default:
		return views.Signature{State: "unknown", Text: "not checked: " + a.named(g) + "'s keys cannot be reached"}
	}
}

// revealToken shows a token to its owner, who has just asked for it. With Accept: text/plain it is the token alone, for the
// Copy button.
func (a *app) revealToken(c echo.Context) error {
	p, view, err := a.panel(c)
	if err != nil {
		return err
	}
	if p.Withheld {
		return problem(http.StatusForbidden, "tokens_withheld", "This Keyturn keeps tokens to itself.", "Its operator has set that nobody may see them.")
	}
	token, _, _ := tokenOf(view.Grant, p.Kind)
	if token == "" {
		return echo.ErrNotFound
	}
	a.Log.InfoContext(c.Request().Context(), "token revealed to its owner", "grant", view.Grant.ID, "kind", p.Kind)
	p.Revealed = token.Reveal()
	switch accept := c.Request().Header.Get(echo.HeaderAccept); {
	case isHTMX(c):
		return a.render(c, http.StatusOK, views.RevealedToken(p))
	case accept == echo.MIMETextPlain:
		return c.String(http.StatusOK, p.Revealed)
	default:
		return a.showPanel(c, view, p)
	}
}

// introspectToken asks the provider what a token is.
func (a *app) introspectToken(c echo.Context) error {
	p, view, err := a.panel(c)
	if err != nil {
		return err
	}
	if !p.CanIntrospect {
		return echo.ErrNotFound
	}
	inspector, _ := a.inspector(view.Grant)
	token, _, _ := tokenOf(view.Grant, p.Kind)
	said := views.Introspection{Generation: view.Grant.Generation}
	claims, err := inspector.Introspect(c.Request().Context(), view.Grant.Tokens, token)
	if err != nil {
		words, whose := a.unanswered(c, view.Grant, "introspection", err)
		said.Error, said.Whose = words, string(whose)
	} else {
		said.Claims = views.ClaimsOf(auth.WithoutSecrets(claims, view.Grant.Tokens.Secrets()...), nil)
	}
	if isHTMX(c) {
		return a.render(c, http.StatusOK, views.IntrospectionAnswer(said, a.Now()))
	}
	p.Introspection = &said
	return a.showPanel(c, view, p)
}

// unanswered says why the provider did not answer a question about a token, and whose matter that is. What the call ran into is in the
// log.
func (a *app) unanswered(c echo.Context, g *auth.Grant, what string, err error) (words string, whose auth.Party) {
	a.Log.WarnContext(c.Request().Context(), "the provider did not answer", "provider", g.Identity.Provider, "what", what,
		"error", cut(auth.Redact(err.Error(), g.Tokens.Secrets()...), 300))
	var refusal *auth.ProviderError
	if !errors.As(err, &refusal) {
		refusal = &auth.ProviderError{}
	}
	name, code := a.named(g), refusal.Failure.Code
	switch told := callWords(name, refusal.Failure); {
	case told.next == toTheOperator:
		return told.what, auth.PartyOperator
	case told.what != "":
		return told.what, auth.PartyProvider
	case code != "":
		return errorWords(name, code) + itSays(refusal.Failure.Detail), auth.PartyProvider
	default:
		return unusableWords(name), auth.PartyProvider
	}
}
