package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// quiet is how long nothing comes from a stream that has nothing more to tell.
const quiet = 2 * time.Second

// told gathers what the stream tells until it is quiet.
func (s *stream) told() (renewals []sent, tokens int) {
	events := make(chan sent)
	go func() {
		defer close(events)
		for {
			e, ok := s.next()
			if !ok {
				return
			}
			events <- e
		}
	}()
	defer func() {
		s.cancel()
		for range events { // until it has ended
		}
	}()
	for {
		select {
		case e, ok := <-events:
			switch {
			case !ok:
				return renewals, tokens
			case e.event == "renewal":
				renewals = append(renewals, e)
			case e.event == "token":
				tokens++
			}
		case <-time.After(quiet):
			return renewals, tokens
		}
	}
}

// While the database takes no renewals a program is told of the token that serves meanwhile, and of the renewal when it is stored.
func TestAProgramIsToldOfARenewalThatIsStoredLate(t *testing.T) {
	t.Parallel()
	for name, earlier := range map[string]int{"the first": 0, "the second": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := atScripted(t, nil)
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			for range earlier {
				alice.do(t, "POST", "/api/renew-token", nil)
			}
			database := filepath.Join(p.dir, "keyturn.db")
			execute(t, database, `CREATE TRIGGER stuck BEFORE INSERT ON renewals BEGIN SELECT RAISE(ABORT, 'stuck'); END`)
			s := alice.listen(t)
			if e, _ := s.next(); e.event != "token" {
				t.Fatalf("at first: %+v", e)
			}
			alice.do(t, "POST", "/api/renew-token", nil)
			if e, _ := s.next(); e.event != "token" || !strings.Contains(e.data, `"generation":`+[]string{"2", "3"}[earlier]) {
				t.Errorf("while it waits: %+v", e)
			}
			execute(t, database, `DROP TRIGGER stuck`)
			renewals, _ := s.told()
			if len(renewals) != 1 || renewals[0].id == "0" || !strings.Contains(renewals[0].data, `"warning":"stored_late"`) {
				t.Errorf("when it is stored: %+v", renewals)
			}
		})
	}
}

// Who comes back with the id of the last event is not told that one again, also when there was something to say of it.
func TestAProgramThatComesBackIsToldNothingTwice(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	idp.Change(func() { idp.IDToken = func(signed string) string { return signed + "x" } })
	s := alice.listen(t)
	alice.do(t, "POST", "/api/renew-token", nil)
	renewals, _ := s.told()
	if len(renewals) == 0 || !strings.Contains(renewals[len(renewals)-1].data, `"warning":"id_token_rejected"`) {
		t.Fatalf("%+v", renewals)
	}
	again, tokens := alice.listen(t, "Last-Event-ID", renewals[len(renewals)-1].id).told()
	if len(again) != 0 || tokens != 1 {
		t.Errorf("told again: %+v, and of %d tokens", again, tokens)
	}
	if older, _ := alice.listen(t, "Last-Event-ID", "0").told(); len(older) != 1 {
		t.Errorf("who has missed it is told %+v", older)
	}
}

// A program that was cut off before anything happened goes on where it was as well.
func TestAProgramIsToldWhatItMissedFromTheBeginning(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	for want := range 2 { // the first time there is no renewal to go on from
		s := alice.listen(t)
		first, _ := s.next()
		s.cancel()
		if first.event != "token" || first.id == "" {
			t.Fatalf("%+v", first)
		}
		alice.do(t, "POST", "/api/renew-token", nil)
		if missed, _ := alice.listen(t, "Last-Event-ID", first.id).told(); len(missed) != 1 {
			t.Errorf("after %d renewals it is told %+v", want, missed)
		}
	}
}

// A database whose backup was restored has fewer renewals than a program was told of.
func TestAProgramThatKnowsMoreThanThereIsIsToldOfTheNext(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	s := alice.listen(t, "Last-Event-ID", "999999")
	if e, _ := s.next(); e.event != "token" {
		t.Fatalf("%+v", e)
	}
	alice.do(t, "POST", "/api/renew-token", nil)
	if renewals, _ := s.told(); len(renewals) != 1 {
		t.Errorf("told of %+v", renewals)
	}
}

// One read that fails, on a connection that was cut say, is no reason to wait for the next change.
func TestAnOpenPageIsToldOfWhatCouldNotBeReadAtFirst(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	execute(t, filepath.Join(p.dir, "keyturn.db"), `ALTER TABLE renewals RENAME COLUMN shared TO away`)
	s := alice.listen(t, "HX-Request", "true")
	eventually(t, "it cannot be read", func() bool { return strings.Contains(p.log.String(), "could not be told of a change yet") })
	time.Sleep(time.Second) // after its first look at what other processes did, nothing wakes it
	execute(t, filepath.Join(p.dir, "keyturn.db"), `ALTER TABLE renewals RENAME COLUMN away TO shared`)
	time.AfterFunc(missed, s.cancel)
	e, ok := s.next()
	for ok && e.event == "alive" {
		e, ok = s.next()
	}
	if !strings.Contains(e.data, `id="token-card"`) {
		t.Errorf("%+v", e)
	}
}
