package handlers

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/session"
	"keyturn/static"
	"keyturn/views"
)

// prompts that a sign-in link may ask for (OpenID Connect Core 3.1.2.1).
var prompts = []string{"login", promptConsent, "select_account"}

const promptConsent = "consent"

// home is the sign-in page, or the way to the dashboard for those who are signed in.
func (a *app) home(c echo.Context) error {
	returnTo := a.returnPath(c.QueryParam("return_to"))
	_, err := a.grant(c)
	switch {
	case err == nil && returnTo != "":
		return c.Redirect(http.StatusSeeOther, returnTo)
	case err == nil:
		return c.Redirect(http.StatusSeeOther, "/dashboard")
	case !errors.Is(err, errSignedOut):
		return err
	}
	page := a.signInPage(returnTo, nil)
	if errors.Is(err, errSomebodyElse) {
		if err := a.endChanged(c); err != nil {
			return err
		}
		words := changedWords()
		page.Problem = &words
	}
	page.Ended = c.QueryParam("ended") != "" || page.Problem != nil
	page.SignedOut, page.SignedOutThere = a.cameBack(c)
	return a.render(c, http.StatusOK, views.SignIn(page))
}

func (a *app) signInPage(returnTo string, problem *views.Problem) views.SignInPage {
	page := views.SignInPage{Problem: problem, DevProvider: a.DevPrefix != ""}
	for _, p := range a.Providers.All() {
		page.Providers = append(page.Providers, views.ProviderButton{
			Name: p.Name(), Label: p.Label(), URL: signInURL(p.Name(), returnTo, ""), Mark: static.Mark(markOf(p.Type())),
		})
	}
	return page
}

// markOf is the name of a provider's mark.
func markOf(providerType string) string {
	if providerType == "oidc" {
		return "openid"
	}
	return providerType
}

func signInURL(name, returnTo, prompt string) string {
	query := url.Values{}
	if returnTo != "" {
		query.Set("return_to", returnTo)
	}
	if prompt != "" {
		query.Set("prompt", prompt)
	}
	if len(query) == 0 {
		return "/auth/" + name
	}
	return "/auth/" + name + "?" + query.Encode()
}

// beginSignIn sends the browser to the provider.
func (a *app) beginSignIn(c echo.Context) error {
	p, ok := a.Providers.Get(c.Param("provider"))
	if !ok {
		return echo.ErrNotFound
	}
	if target := a.atHome(c.Request()); target != "" {
		return a.goOn(c, target)
	}
	prompt := c.QueryParam("prompt")
	if !slices.Contains(prompts, prompt) {
		prompt = ""
	}
	if prompt == "" && a.consents.insists(p.Name(), a.Now()) {
		prompt = promptConsent
	}
	return a.goToProvider(c, p, session.Pending{
		ReturnTo: a.returnPath(c.QueryParam("return_to")), Prompt: prompt, Hint: loginHint(c.QueryParam("login_hint")),
	})
}

// sentHome marks a request for a sign-in that was sent to the base URL's host already. A proxy that writes Keyturn's own address into
// Host would have it go round for ever.
const sentHome = "moved"

// atHome is where a sign-in at another loopback name has to begin instead: a browser at 127.0.0.1 would come back from the provider to
// localhost, without its cookie. It is empty for one that is where it belongs.
func (a *app) atHome(r *http.Request) string {
	base, err := url.Parse(a.BaseURL)
	if err != nil || r.Host == base.Host || !loopback(r.Host) || !loopback(base.Host) || r.URL.Query().Has(sentHome) {
		return ""
	}
	query := r.URL.Query()
	query.Set(sentHome, "1")
	return a.BaseURL + r.URL.EscapedPath() + "?" + query.Encode()
}

// goToProvider sends the browser to the provider, for a sign-in of which all is given but what the provider needs.
func (a *app) goToProvider(c echo.Context, p provider.Provider, pending session.Pending) error {
	ctx := c.Request().Context()
	state := rand.Text()
	s, err := p.Begin(ctx, state, pending.Prompt, pending.Hint)
	if err != nil {
		return a.roundFailed(c, p, pending, err)
	}
	target, err := s.GetAuthURL()
	if err != nil {
		return a.roundFailed(c, p, pending, err)
	}
	pending.Provider, pending.Session = p.Name(), s.Marshal()
	err = a.Sessions.Await(ctx, state, pending)
	switch {
	case errors.Is(err, session.ErrEnded) && pending.Asked != "":
		// It ended since this request gave it the name that the browser does not know yet, and would not know the answer.
		if err := a.Sessions.End(ctx); err != nil && !errors.Is(err, session.ErrRenamed) {
			return storageProblem(err)
		}
		return a.arrive(c, pending.ReturnTo)
	case errors.Is(err, session.ErrEnded) && timesMore(c) < mostOnceMore:
		return a.sendOnceMore(c) // with the session that the browser has by then
	case err != nil && !errors.Is(err, session.ErrEnded):
		return storageProblem(err)
	}
	return a.goOn(c, target)
}

func loopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return provider.Loopback(strings.Trim(name, "[]"))
}

// stateRemembered is for how long it is remembered that a state has been used: longer than a sign-in may take.
const stateRemembered = time.Hour

// finishSignIn takes the provider's answer, by query or by form_post.
func (a *app) finishSignIn(c echo.Context) error {
	p, ok := a.Providers.Get(c.Param("provider"))
	if !ok {
		return echo.ErrNotFound
	}
	answer, err := readAnswer(c.Request(), p)
	if err != nil {
		return err
	}
	// A cross-site POST comes without the SameSite=Lax session; a GET to ourselves brings it.
	if c.Request().Method == http.MethodPost && !a.Sessions.Has(c.Request().Context()) {
		return a.comeByGet(c, answer)
	}
	ctx := c.Request().Context()
	endTurn, inTurn, err := a.Sessions.Turn(ctx)
	if err != nil {
		return storageProblem(err)
	}
	if !inTurn && c.Request().Method == http.MethodPost {
		return a.comeByGet(c, answer)
	}
	if !inTurn {
		return a.sendOnceMore(c)
	}
	defer endTurn()
	pending, ok, err := a.pendingFor(ctx, p, answer)
	if err != nil {
		return storageProblem(err)
	}
	if !ok {
		return a.unawaited(c, p, answer)
	}
	s, err := p.UnmarshalSession(pending.Session)
	if err != nil {
		return a.roundFailed(c, p, pending, err)
	}
	signedIn, err := p.Finish(context.WithoutCancel(ctx), s, answer) // cut off, the tokens of an answer on its way would be nobody's
	if failure := new(provider.SignInError); errors.As(err, &failure) {
		a.discard(ctx, auth.SignedIn{Identity: auth.Identity{Provider: p.Name()}, Answer: failure.Unused})
	}
	if err != nil {
		return a.roundFailed(c, p, pending, err)
	}
	err = a.enter(c, signedIn)
	if errors.Is(err, auth.ErrOver) {
		return a.roundFailed(c, p, pending, &provider.SignInError{Code: codeOver, Detail: err.Error()})
	}
	if err != nil {
		a.Meter.SignIn(p.Name(), SignInFailed)
	}
	switch {
	case errors.Is(err, session.ErrRenamed), errors.Is(err, session.ErrEnded):
		return a.arrive(c, pending.ReturnTo) // as who the browser is by now
	case err != nil:
		return err
	case a.roundDone(ctx, p, pending, signedIn):
		return a.goToProvider(c, p, secondRound(pending, signedIn.Identity))
	}
	return a.arrive(c, pending.ReturnTo)
}

// pendingFor takes the sign-in that an answer is for; ok is false when there is none. Of several requests with one answer, at several
// replicas perhaps, one gets it: a code that comes twice ends the grant at the provider (RFC 6749 section 4.1.2).
func (a *app) pendingFor(ctx context.Context, p provider.Provider, answer url.Values) (pending session.Pending, ok bool, err error) {
	if pending, ok = a.Sessions.Take(ctx, answer.Get("state"), p.Name()); ok {
		ok, err = a.Vault.Use(ctx, stateMark(answer), a.Now().Add(stateRemembered))
	}
	return pending, ok, err
}

// unawaited refuses an answer that no sign-in waits for. If it has signed the browser in before, it was reloaded, or gone back to.
func (a *app) unawaited(c echo.Context, p provider.Provider, answer url.Values) error {
	ctx := c.Request().Context()
	if _, in := a.Sessions.SignedIn(ctx); in {
		used, err := a.Vault.Used(ctx, stateMark(answer))
		if err != nil {
			return storageProblem(err)
		}
		if used {
			return a.arrive(c, "")
		}
	}
	a.Meter.SignIn(p.Name(), SignInFailed)
	return problem(http.StatusBadRequest, "unknown_state", "This sign-in was not begun in this browser, is too old, or has been used.",
		"Nothing was signed in. Begin again.").action(signInURL(p.Name(), "", ""), "Sign in again")
}

// stateMark is what remembers that an answer's state has been used.
func stateMark(answer url.Values) string { return "state " + session.Hash(answer.Get("state")) }

// comeByGet has a browser come with an answer once more, with the session that it has then.
func (a *app) comeByGet(c echo.Context, answer url.Values) error {
	return a.goOn(c, c.Request().URL.Path+"?"+answer.Encode())
}

// arrive takes a browser that has signed in to where it wanted to go.
func (a *app) arrive(c echo.Context, returnTo string) error {
	if returnTo != "" {
		return c.Redirect(http.StatusSeeOther, returnTo)
	}
	return c.Redirect(http.StatusSeeOther, "/dashboard")
}

// enter makes the browser's session the person's, under a new token, and ends the grant that it had before. Until the session is stored
// so, the browser has the one that it came with.
func (a *app) enter(c echo.Context, signedIn auth.SignedIn) error {
	ctx := c.Request().Context()
	before, had := a.Sessions.SignedIn(ctx)
	g, err := a.begin(c, signedIn)
	if errors.Is(err, auth.ErrOver) {
		a.Sessions.Keep(ctx)
		return err
	}
	if err != nil {
		a.discard(ctx, signedIn)
		a.Sessions.Keep(ctx)
		return storageProblem(err)
	}
	now := session.Owner{GrantID: g.ID, Provider: g.Identity.Provider, Subject: g.Identity.Subject}
	if err := a.Sessions.SignIn(ctx, now); err != nil {
		if err := a.Grants.Forget(ctx, g.ID); err != nil {
			a.Log.ErrorContext(ctx, "the grant of a sign-in that came to nothing could not be ended; upkeep removes it", "error", err)
		}
		if errors.Is(err, session.ErrRenamed) { // the tokens may be of the grant that the other sign-in has, and are left to run out
			return err
		}
		a.discard(ctx, signedIn)
		if errors.Is(err, session.ErrEnded) {
			return err
		}
		return storageProblem(err)
	}
	a.Meter.SignIn(now.Provider, SignInDone)
	a.forgetLeaving(c)
	if had {
		// It is not one more than there were.
		a.takePlace(ctx, before, now)
	}
	if err := a.Grants.EndOldest(ctx, g, a.SessionsPerPerson, a.Sessions.EndOther); err != nil {
		a.Log.ErrorContext(ctx, "the oldest sessions of a person could not be ended", "error", err)
	}
	return nil
}

// begin stores the grant of a sign-in, for the session's new token.
func (a *app) begin(c echo.Context, signedIn auth.SignedIn) (*auth.Grant, error) {
	ctx := c.Request().Context()
	hash, err := a.Sessions.Renew(ctx)
	if err != nil {
		return nil, err
	}
	signedIn.SessionHash, signedIn.IP = hash, c.RealIP()
	signedIn.UserAgent = cut(c.Request().UserAgent(), 300)
	return a.Grants.Begin(context.WithoutCancel(ctx), signedIn)
}

// takePlace ends the grant that the session had before.
func (a *app) takePlace(ctx context.Context, before, now session.Owner) {
	var err error
	if before.Provider == now.Provider && before.Subject == now.Subject {
		err = a.Grants.Forget(ctx, before.GrantID)
	} else {
		err = a.Grants.EndBeside(ctx, before.GrantID)
	}
	if err != nil {
		a.Log.ErrorContext(ctx, "the grant before this sign-in could not be ended; upkeep removes it", "error", err)
	}
}

// discard revokes the tokens of a sign-in that comes to nothing. Those of somebody who stays signed in here with an earlier grant, or
// may be the one who does, are left alone: to many providers the two are one grant.
func (a *app) discard(ctx context.Context, signedIn auth.SignedIn) {
	whose := signedIn.Identity
	before, had := a.Sessions.SignedIn(ctx)
	if had && before.Provider == whose.Provider && (whose.Subject == "" || before.Subject == whose.Subject) {
		return
	}
	if signedIn.Answer.Access != "" || signedIn.Answer.Refresh != "" {
		a.Grants.Discard(ctx, signedIn)
	}
}

// signInFailure is why a sign-in failed. The code and the words may be the provider's, or whoever's who made the link to the callback:
// they are cut short.
func signInFailure(err error) *provider.SignInError {
	var failure *provider.SignInError
	if !errors.As(err, &failure) {
		failure = &provider.SignInError{Code: codeInternal, Detail: err.Error()}
	}
	return &provider.SignInError{
		Code: cut(failure.Code, 60), Detail: cut(failure.Detail, 300), Said: cut(failure.Said, 200), Failure: failure.Failure,
	}
}

// ofProvider are the codes of sign-ins that fail because of how the provider is, and not of what the browser brought.
var ofProvider = []string{
	auth.CodeDiscovery, auth.CodeMetadata, auth.CodeKeysUnavailable, provider.CodeExchangeFailed, provider.CodePushRefused, "server_error",
	"temporarily_unavailable",
}

// signInFailed says on the sign-in page what went wrong, and offers another try.
func (a *app) signInFailed(c echo.Context, p provider.Provider, returnTo string, err error) error {
	failure := signInFailure(err)
	a.Log.WarnContext(c.Request().Context(), "sign-in failed", "provider", p.Name(), "code", failure.Code,
		"detail", failure.Detail, "said", failure.Said)
	outcome := SignInFailed
	if failure.Code == "access_denied" {
		outcome = SignInCancelled
	}
	a.Meter.SignIn(p.Name(), outcome)
	status := http.StatusBadRequest
	if slices.Contains(ofProvider, failure.Code) {
		status = http.StatusBadGateway
	}
	words := signInWords(p.Label(), failure)
	page := a.signInPage(returnTo, &words)
	for i, way := range page.Providers {
		if way.Name == p.Name() {
			page.Providers[i].URL = signInURL(p.Name(), returnTo, promptFor(failure.Code))
		}
	}
	return a.render(c, status, views.SignIn(page))
}
