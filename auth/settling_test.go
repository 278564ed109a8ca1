package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// holdKeys has the provider sign with a key that is published only when the returned function is called.
func holdKeys(t *testing.T, h *house) (release func()) {
	t.Helper()
	hold := make(chan struct{})
	release = sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	published := signsAnew(t, h.idp)
	h.idp.Change(func() {
		h.idp.Keys = func(w http.ResponseWriter, _ *http.Request) {
			<-hold
			_ = json.NewEncoder(w).Encode(published)
		}
	})
	return release
}

// What an id token is found to be goes into what has become of the grant meanwhile, and takes nothing back.
func TestSettlingTakesNothingBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request, func() map[string]any)
		keeps  func(g *auth.Grant) bool
	}{
		"a refresh token without an access token": {
			says(http.StatusOK, `{"refresh_token":"refresh-3-ABC"}`),
			func(g *auth.Grant) bool {
				return g.Tokens.Refresh == "refresh-3-ABC" && g.Standing.Failure.Code == auth.CodeNoAccessToken
			},
		},
		"a refusal": {
			oauthError(http.StatusBadRequest, "invalid_grant"),
			func(g *auth.Grant) bool { return g.Standing.Refused && g.DueAt.IsZero() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{})
			release := holdKeys(t, h)
			h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
			pending := h.stored(t).Pending
			h.idp.Change(func() {
				h.idp.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
					c.answer(w, r, grant)
					return true
				}
			})
			h.renew(t)
			if !c.keeps(h.stored(t)) {
				t.Fatalf("stored at first: %+v", h.stored(t).Standing)
			}
			release()
			waitFor(t, "the id token is settled", func() bool { return h.stored(t).Pending == "" })
			if got := h.stored(t); !c.keeps(got) || got.Tokens.ID != pending {
				t.Errorf("after it is settled: %v, %+v", got.Tokens.Refresh, got.Standing)
			}
		})
	}
}

// What was found while the next renewal ran, which brought nothing, stays.
func TestARenewalTakesNothingBackThatWasSettledMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	release := holdKeys(t, h)
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	pending := h.stored(t).Pending
	began, goOn := make(chan bool, 1), make(chan bool)
	h.idp.Change(func() {
		h.idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			began <- true
			<-goOn
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	})
	done := make(chan auth.Result)
	go func() { done <- h.renew(t) }()
	<-began
	release()
	waitFor(t, "the id token is settled", func() bool { return h.stored(t).Pending == "" })
	close(goOn)
	h.expect(t, <-done, auth.OutcomeKept, 2)
	if got := h.stored(t); got.Pending != "" || got.Tokens.ID != pending {
		t.Errorf("%v is pending, the id token is %v", got.Pending, got.Tokens.ID)
	}
}

// A renewal that brings no id token does not make the one before it any better.
func TestAPendingIDTokenOutlivesTheNextRenewal(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	release := holdKeys(t, h)
	h.renew(t)
	pending := h.stored(t).Pending
	h.idp.Change(func() { h.idp.Tokens = func(tokens map[string]any, _ bool) { delete(tokens, "id_token") } })
	h.expect(t, h.renew(t), auth.OutcomeRotated, 3)
	if got := h.stored(t); pending == "" || got.Pending != pending {
		t.Errorf("%v is pending, it was %v", got.Pending, pending)
	}
	release()
	// It is of the access token that it came with.
	waitFor(t, "the id token is settled", func() bool { return h.stored(t).Tokens.ID == pending })
	if got := h.stored(t); got.Generation != 3 || got.Pending != "" || got.PendingFor != "" {
		t.Errorf("generation %d, %v is pending", got.Generation, got.Pending)
	}
}

// Nobody sees what came with an id token of somebody else, whatever else is wrong with that, with its keys, or with the disk.
func TestTokensOfSomebodyElseAreNeverServed(t *testing.T) {
	t.Parallel()
	mallory := func(edit func(claims map[string]any)) func(*house) {
		return func(h *house) {
			h.idp.Change(func() {
				h.idp.Claims = func(claims map[string]any, _ bool) { claims["sub"] = "mallory"; edit(claims) }
			})
		}
	}
	plainly := mallory(func(map[string]any) {})
	for name, arrange := range map[string]func(t *testing.T, h *house){
		"in order": func(_ *testing.T, h *house) { plainly(h) },
		"expired": func(_ *testing.T, h *house) {
			mallory(func(c map[string]any) { c["exp"] = time.Now().Unix() - 9999 })(h)
		},
		"of another client": func(_ *testing.T, h *house) { mallory(func(c map[string]any) { c["aud"] = "other" })(h) },
		"of another token":  func(_ *testing.T, h *house) { mallory(func(c map[string]any) { c["at_hash"] = "other" })(h) },
		"without an access token": func(_ *testing.T, h *house) {
			plainly(h)
			h.idp.Change(func() { h.idp.Tokens = func(tokens map[string]any, _ bool) { delete(tokens, "access_token") } })
		},
		"with an error": func(_ *testing.T, h *house) {
			plainly(h)
			h.idp.Change(func() { h.idp.Tokens = func(tokens map[string]any, _ bool) { tokens["error"] = "server_error" } })
		},
		"of unreadable keys": func(t *testing.T, h *house) { holdKeys(t, h); plainly(h) },
		"of another issuer": func(_ *testing.T, h *house) {
			h.idp.Change(func() { h.idp.Claims = func(c map[string]any, _ bool) { c["iss"] = "https://other.example/" } })
		},
	} {
		for _, full := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", and the disk is full"}[full], func(t *testing.T) {
				t.Parallel()
				h, disk := onAFailingDisk(t, nil)
				if !full {
					disk.mend()
				}
				arrange(t, h)
				result := h.renew(t)
				if result.Outcome != auth.OutcomeRefused || result.Failure.Code != auth.CodeIdentityChanged || !result.Grant.Ended() {
					t.Errorf("%s (%s)", result.Outcome, result.Failure.Code)
				}
				view, err := h.rotator.Fresh(t.Context(), h.grant.ID)
				if err != nil || !view.Grant.Ended() || view.Grant.Tokens.Access != "" {
					t.Errorf("then it is %s, %v", view.State, err)
				}
				waitFor(t, "the tokens that came are revoked", func() bool { return len(h.idp.Revoked()) == 1 })
				if whose := disk.owedBy.Load(); whose != "mallory" && name != "of another issuer" {
					t.Errorf("they are owed as %s's", whose)
				}
				disk.mend()
				waitFor(t, "it is stored", func() bool { return h.stored(t).Ended() })
				if history, err := h.db.History(t.Context(), h.grant.ID, 0, 9); err != nil || len(history) != 1 || history[0].Code != auth.CodeIdentityChanged {
					t.Errorf("history %+v, %v", history, err)
				}
			})
		}
	}
}

// endsElsewhere ends the grant as a renewal does that brings somebody else's tokens.
func (h *house) endsElsewhere(t *testing.T) {
	t.Helper()
	ended := h.stored(t)
	ended.Tokens = auth.TokenSet{}
	ended.Standing = auth.Standing{Outcome: auth.OutcomeRefused, Refused: true, Failure: auth.Failure{Code: auth.CodeIdentityChanged}}
	if err := h.db.Amend(t.Context(), ended, &auth.Renewal{}); err != nil {
		t.Fatal(err)
	}
}

// An ending that another renewal brought, perhaps in another process, wins over one that is under way.
func TestAGrantThatHasEndedIsNotRenewed(t *testing.T) {
	t.Parallel()
	began, goOn := make(chan bool, 1), make(chan bool)
	h := newHouse(t, options{idp: func(p *scripted.Provider) {
		p.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			began <- true
			<-goOn
			return false
		}
	}})
	done := make(chan auth.Result)
	go func() {
		result, _ := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now())
		done <- result
	}()
	<-began
	h.endsElsewhere(t)
	close(goOn)
	if result := <-done; !result.Grant.Ended() || !h.stored(t).Ended() {
		t.Errorf("answered %s, stored %+v", result.Outcome, h.stored(t).Standing)
	}
	waitFor(t, "the tokens that came are revoked", func() bool { return len(h.idp.Revoked()) == 1 })
}

// Tokens of a later generation than the stored one, as after a database was restored, are not stored, and the lease is given back.
func TestALateAnswerIsStoredOverTheGenerationThatItCameFrom(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	began, goOn := make(chan bool, 1), make(chan bool)
	h.idp.Change(func() {
		h.idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			began <- true
			<-goOn
			return false
		}
	})
	done := make(chan auth.Result)
	go func() { done <- h.renew(t) }()
	<-began
	h.execute(t, `UPDATE grants SET generation = 1, lease_owner = '', lease_until = 0`)
	close(goOn)
	if result := <-done; result.Grant.Generation != 1 || h.stored(t).Generation != 1 {
		t.Errorf("%s, generation %d, stored is %d", result.Outcome, result.Grant.Generation, h.stored(t).Generation)
	}
	if _, err := h.db.Lease(t.Context(), h.grant.ID, "other", auth.LeaseTTL); err != nil {
		t.Errorf("the lease is not given back: %v", err)
	}
}

// A refresh token that comes alone is revoked like any other, when the grant is gone by then.
func TestASalvagedRefreshTokenOfAnEndedGrantIsRevoked(t *testing.T) {
	t.Parallel()
	began, goOn := make(chan bool, 1), make(chan bool)
	h := newHouse(t, options{idp: func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
			edited(func(tokens map[string]any) {
				delete(tokens, "access_token")
				began <- true
				<-goOn
			})(w, r, grant)
			return true
		}
	}})
	done := make(chan error)
	go func() {
		_, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now())
		done <- err
	}()
	<-began
	if _, err := h.grants.End(t.Context(), h.grant.ID); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	<-done
	waitFor(t, "both refresh tokens are revoked", func() bool { return len(h.idp.Revoked()) == 2 })
}

// To many providers a person's grants are one: what a renewal brings for the one that a new sign-in replaced is not revoked.
func TestANewSignInOutlivesARenewalOfTheOld(t *testing.T) {
	t.Parallel()
	for _, full := range []bool{false, true} {
		began, goOn := make(chan bool, 1), make(chan bool)
		h, disk := onAFailingDisk(t, func(p *scripted.Provider) {
			p.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
				began <- true
				<-goOn
				return false
			}
		})
		if !full {
			disk.mend()
		}
		done := make(chan error)
		go func() {
			_, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now())
			done <- err
		}()
		<-began
		if err := h.grants.Forget(t.Context(), h.grant.ID); err != nil {
			t.Fatal(err)
		}
		close(goOn)
		<-done
		disk.mend()
		waitFor(t, "all is stored", func() bool { return h.rotator.Unstored() == 0 })
		if err := h.grants.Wait(t.Context()); err != nil || len(h.idp.Revoked()) != 0 {
			t.Errorf("full disk %v: %d revoked, %v", full, len(h.idp.Revoked()), err)
		}
	}
}

// unmindful is a vault that remembers nothing of what was used.
type unmindful struct{ auth.Vault }

func (unmindful) Use(context.Context, string, time.Time) (bool, error) { return false, errDiskFull }

// A grant is not gone before it is known why: a renewal that is under way would revoke the tokens of the sign-in that took its place.
func TestAGrantStaysUntilItIsKnownToBeReplaced(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return unmindful{v} }})
	if err := h.grants.Forget(t.Context(), h.grant.ID); !errors.Is(err, errDiskFull) {
		t.Errorf("%v", err)
	}
	h.stored(t)
}

// The tokens of a grant that has ended while the database took nothing are revoked, as those of one that is gone.
func TestTokensOnTheShelfOfAGrantThatEndedAreRevoked(t *testing.T) {
	t.Parallel()
	h, disk := rotatesOntoAFullDisk(t, scripted.Strict)
	h.endsElsewhere(t)
	disk.mend()
	waitFor(t, "an empty shelf", func() bool { return h.rotator.Unstored() == 0 })
	waitFor(t, "the tokens that came are revoked", func() bool { return len(h.idp.Revoked()) == 1 })
	if !h.stored(t).Ended() {
		t.Errorf("stored %+v", h.stored(t).Standing)
	}
}

// Keys that are out of reach are not asked for by every request.
func TestAPendingIDTokenIsCheckedNowAndThen(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	h.idp.Change(func() {
		h.idp.Keys = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	})
	signsAnew(t, h.idp)
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	for range 20 {
		if _, err := h.rotator.Fresh(t.Context(), h.grant.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.rotator.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(h.log.String(), "new id token not checked yet"); n != 2 {
		t.Errorf("it was checked %d times, want once when it came and once for those who asked", n)
	}
}

// To read a large id token takes its time, which the tokens that came with it do not wait for.
func TestALargeIDTokenIsVerifiedWhenTheTokensAreStored(t *testing.T) {
	t.Parallel()
	count := &counted{}
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { count.Vault = v; return count }})
	h.idp.Change(func() {
		h.idp.Claims = func(claims map[string]any, _ bool) { claims["picture"] = strings.Repeat("p", 20<<10) }
	})
	h.renew(t)
	waitFor(t, "it is settled", func() bool { return h.stored(t).Pending == "" })
	count.expect(t, "a renewal with a large id token", "claim", "replace", "amend")
}
