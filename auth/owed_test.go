package auth_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// debts is of a test's own vault what keeps owed revocations, as the engines do.
type debts struct {
	auth.Vault
	lock sync.Mutex
	owed map[string]*debt
}

type debt struct {
	gone        *auth.Grant
	since, next time.Time
}

func (d *debts) add(gone *auth.Grant, wait time.Duration) {
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.owed == nil {
		d.owed = map[string]*debt{}
	}
	d.owed[gone.ID] = &debt{gone, time.Now(), time.Now().Add(wait)}
}

func (d *debts) Owe(_ context.Context, gone *auth.Grant, wait time.Duration) error {
	d.add(gone, wait)
	return nil
}

func (d *debts) turns(provider string) (list []*debt) {
	for _, one := range d.owed {
		if !one.next.After(time.Now()) && (provider == "" || one.gone.Identity.Provider == provider) {
			list = append(list, one)
		}
	}
	return list
}

func (d *debts) Owing(context.Context) ([]string, error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	names := map[string]bool{}
	for _, one := range d.turns("") {
		names[one.gone.Identity.Provider] = true
	}
	return slices.Collect(maps.Keys(names)), nil
}

func (d *debts) TakeOwed(_ context.Context, provider string, wait time.Duration, limit int) (list []auth.Owed, err error) {
	d.lock.Lock()
	defer d.lock.Unlock()
	for _, one := range d.turns(provider) {
		if len(list) < limit {
			one.next = time.Now().Add(wait)
			list = append(list, auth.Owed{Grant: one.gone, For: time.Since(one.since)})
		}
	}
	return list, nil
}

func (d *debts) PutOff(_ context.Context, id string, wait time.Duration) error {
	d.lock.Lock()
	defer d.lock.Unlock()
	if one := d.owed[id]; one != nil {
		one.next = time.Now().Add(wait)
	}
	return nil
}

func (d *debts) Settle(_ context.Context, id string) error {
	d.lock.Lock()
	defer d.lock.Unlock()
	delete(d.owed, id)
	return nil
}

func (d *debts) count() int {
	d.lock.Lock()
	defer d.lock.Unlock()
	return len(d.owed)
}

// runs has grants revoke what is owed, as a process does until end is called.
func runs(t *testing.T, grants *auth.Grants) (end func() error) {
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { grants.Run(ctx) })
	return func() error {
		stop()
		running.Wait()
		return grants.Wait(context.WithoutCancel(ctx))
	}
}

// unwell is a provider's answer that it cannot be asked now.
func unwell(status int) error {
	return &auth.ProviderError{Delivery: auth.DeliveryAnswered, Failure: auth.Failure{Status: status}}
}

// A process that ends makes no more calls than those that run. What waits is the next one's.
func TestRevocationsThatWaitAtTheEndAreTheNextProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var running crowd
		var revoked, refused atomic.Int32
		providers := revokers{"work": {revoke: func(context.Context, auth.TokenSet) error {
			defer running.enter()()
			over := running.now.Load() > 20
			time.Sleep(3 * time.Second)
			if over {
				refused.Add(1)
				return unwell(http.StatusTooManyRequests)
			}
			revoked.Add(1)
			return nil
		}}}
		vault := &many{left: map[string]int{"work": 1000}}
		process := func() *auth.Grants {
			return auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, slog.New(slog.DiscardHandler))
		}
		grants := process()
		end := runs(t, grants)
		over := auth.Logout{Session: auth.ProviderSession{Provider: "work", Subject: "alice"}}
		if _, err := grants.EndAll(t.Context(), over, func(context.Context, string) error { return nil }); err != nil {
			t.Error(err)
		}
		late, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 { // of whoever has waited long enough already
			if _, err := grants.End(late, "work"); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(10 * time.Second)
		began, before := time.Now(), revoked.Load()
		if err := end(); err != nil || time.Since(began) > 10*time.Second || revoked.Load() > before+32 || running.most.Load() != 32 {
			t.Errorf("it ended after %v, %d and then %d are revoked, %d at once; %v",
				time.Since(began), before, revoked.Load(), running.most.Load(), err)
		}
		if int(revoked.Load())+vault.count() != 1100 || refused.Load() == 0 {
			t.Errorf("%d are revoked, %d owed, %d were turned away", revoked.Load(), vault.count(), refused.Load())
		}
		end = runs(t, process())
		time.Sleep(10 * time.Minute)
		if err := end(); err != nil || revoked.Load() != 1100 || vault.count() != 0 {
			t.Errorf("the next process revoked %d, %d are owed; %v", revoked.Load(), vault.count(), err)
		}
	})
}

// What is owed is tried again for a day, ever less often, and then somebody is told. A refusal is told at once.
func TestWhatIsOwedIsTriedForADay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		until  time.Duration // when the provider is well again, or configured
		absent bool
		answer error
		over   time.Duration // when nothing is owed any more, at the latest
		told   bool
	}{
		"an hour's outage":      {until: time.Hour, answer: unwell(http.StatusServiceUnavailable), over: 2 * time.Hour},
		"an outage for good":    {until: 9 * auth.OwedFor, answer: unwell(http.StatusServiceUnavailable), over: auth.OwedFor + time.Hour, told: true},
		"a secret that changes": {until: time.Hour, answer: unwell(http.StatusUnauthorized), over: 2 * time.Hour},
		"a refusal":             {until: 9 * auth.OwedFor, answer: unwell(http.StatusBadRequest), over: time.Minute, told: true},
		"not set for a while":   {until: time.Hour, absent: true, over: 2 * time.Hour},
		"not set any more":      {until: 9 * auth.OwedFor, absent: true, over: auth.OwedFor + time.Hour, told: true},
		"well from the outset":  {over: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var tries, revoked atomic.Int32
				providers := setLater{until: began.Add(c.until), revokers: revokers{"work": {revoke: func(context.Context, auth.TokenSet) error {
					tries.Add(1)
					if time.Since(began) < c.until {
						return c.answer
					}
					revoked.Add(1)
					return nil
				}}}}
				if !c.absent {
					providers.until = began
				}
				log := &authtest.Buffer{}
				vault := &many{}
				grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, slog.New(slog.NewTextHandler(log, nil)))
				end := runs(t, grants)
				if _, err := grants.End(t.Context(), "work"); err != nil {
					t.Error(err)
				}
				time.Sleep(min(c.until, c.over) / 2)
				if c.until > 0 && c.over > time.Minute && vault.count() != 1 {
					t.Errorf("%d are owed meanwhile", vault.count())
				}
				time.Sleep(c.over - time.Since(began))
				told := strings.Contains(log.String(), "level=WARN msg=\"tokens of an ended grant could not be revoked\"")
				if err := end(); err != nil || vault.count() != 0 || told != c.told || (revoked.Load() == 1) == c.told || tries.Load() > 2000 {
					t.Errorf("%d are owed, %d revoked after %d tries; told: %v; %v", vault.count(), revoked.Load(), tries.Load(), told, err)
				}
			})
		})
	}
}

// setLater is providers that are configured from a moment on.
type setLater struct {
	revokers
	until time.Time
}

func (c setLater) Of(whose auth.Identity) (auth.Provider, bool) {
	p, ok := c.revokers.Of(whose)
	return p, ok && !time.Now().Before(c.until)
}

// Tokens that come for a grant which is over are owed like its own when the provider does not take them back at once.
func TestTokensThatComeTooLateAreOwed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []auth.TokenSet
		providers := revokers{"work": {revoke: func(_ context.Context, tokens auth.TokenSet) error {
			if got = append(got, tokens); len(got) == 1 {
				return unwell(http.StatusServiceUnavailable)
			}
			return nil
		}}}
		vault := &many{}
		grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, slog.New(slog.DiscardHandler))
		end := runs(t, grants)
		late := auth.TokenSet{Refresh: "late"}
		grants.Revoke(t.Context(), "over", auth.Identity{Provider: "work"}, late)
		if vault.count() != 1 {
			t.Errorf("%d are owed", vault.count())
		}
		time.Sleep(time.Minute)
		if err := end(); err != nil || vault.count() != 0 || len(got) != 2 || got[1] != late {
			t.Errorf("revoked are %v, %d are owed; %v", got, vault.count(), err)
		}
	})
}

// A provider that asks to be left alone is: nothing of what is owed is tried there before its time, whoever tries.
func TestAProviderThatAsksToBeLeftAloneIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		var asked []time.Duration
		providers := revokers{"work": {revoke: func(context.Context, auth.TokenSet) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Since(began))
			if time.Since(began) < time.Minute {
				return &auth.ProviderError{Delivery: auth.DeliveryAnswered, Failure: auth.Failure{Status: 429}, RetryAfter: time.Minute}
			}
			return nil
		}}}
		vault := &many{}
		log := slog.New(slog.DiscardHandler)
		revocations := auth.NewRevocations(vault, providers, log)
		for range 100 {
			gone, _ := vault.End(t.Context(), "work", time.Hour)
			revocations.Begin(t.Context(), gone)
			synctest.Wait()
		}
		if left := revocations.Wait(); len(left) != 1 || left[0].Owed != 100 || time.Since(began) > time.Second || len(asked) != 1 {
			t.Errorf("the command line has asked at %v, and leaves %v", asked, left)
		}
		grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, log)
		end := runs(t, grants)
		time.Sleep(5 * time.Minute)
		err := end()
		late := slices.IndexFunc(asked, func(at time.Duration) bool { return at >= time.Minute })
		if err != nil || vault.count() != 0 || late > 1+32 || len(asked) != late+100 {
			t.Errorf("asked at %v, %d are owed; %v", asked, vault.count(), err)
		}
	})
}

// Of the answers with status 400, one that refuses the client is not for good: the operator mends it. One that the token is not valid
// leaves nothing to revoke. A redirect has revoked nothing, whatever there is to read elsewhere.
func TestWhatIsOwedGoesByTheProvidersWords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status     int
		body       string
		owed, told bool
		wait       time.Duration // at least
	}{
		"the client is refused":     {400, `{"error":"invalid_client"}`, true, false, 0},
		"the request is refused":    {400, `{"error":"invalid_request"}`, false, true, 0},
		"the token is not valid":    {400, `{"error":"invalid_token"}`, false, false, 0},
		"a refusal without a code":  {400, "", false, true, 0},
		"maintenance, says a page":  {302, "", true, false, 0},
		"the provider is not there": {503, "", true, false, 0},
		"the provider says when":    {503, "", true, false, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: func(idp *scripted.Provider) {
				idp.Revocation = func(w http.ResponseWriter) bool {
					w.Header().Set("Retry-After", strconv.Itoa(int(c.wait.Seconds())))
					w.WriteHeader(c.status)
					fmt.Fprint(w, c.body)
					return true
				}
			}})
			began := time.Now()
			if _, err := h.grants.End(t.Context(), h.grant.ID); err != nil {
				t.Error(err)
			}
			if err := h.grants.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			told := strings.Contains(h.log.String(), "level=WARN")
			if turns := h.owed(t); (len(turns) == 1) != c.owed || told != c.told || c.owed && turns[0].Sub(began) < c.wait {
				t.Errorf("owed: %v, told: %v; %s", turns, told, h.log)
			}
		})
	}
}

// owed is when the turns of the owed revocations come.
func (h *house) owed(t *testing.T) (turns []time.Time) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+h.db.Path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT next_try FROM owed_revocations`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var us int64
		if err := rows.Scan(&us); err != nil {
			t.Fatal(err)
		}
		turns = append(turns, time.UnixMicro(us))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return turns
}
