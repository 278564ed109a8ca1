package postgres

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// channel carries the ids of grants that were renewed or ended, and nothing else.
	channel = "keyturn"
	// pulse is how often the listening connection is tried: one that a firewall has forgotten says nothing.
	pulse = 5 * time.Second
	// pulsesALook is how many pulses pass until everybody looks who may have missed something: a replica that is killed between a write
	// and its announcement announces nothing.
	pulsesALook = 3
	// listenBackoff is the longest wait between two tries to listen again.
	listenBackoff = 2 * time.Second
	// deafLook is how often everybody looks while nothing can be heard, be it that tries fail or that one takes long.
	deafLook = 2 * time.Second
)

// news are grants that others have to hear of. They are announced after the write and not with it: PostgreSQL lets only one
// transaction that notifies commit at a time, and renewals would queue for the disk. It is safe for concurrent use.
type news struct {
	wake chan struct{}

	mu     sync.Mutex
	grants map[string]struct{}
}

func newNews() news { return news{wake: make(chan struct{}, 1), grants: map[string]struct{}{}} }

func (n *news) add(grant string) {
	n.mu.Lock()
	n.grants[grant] = struct{}{}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *news) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := slices.Collect(maps.Keys(n.grants))
	clear(n.grants)
	return taken
}

// announce sends news until ctx is done, and then what is left. What comes while some are being sent goes together.
func (db *DB) announce(ctx context.Context) {
	for done := false; !done; {
		select {
		case <-db.news.wake:
		case <-ctx.Done():
			done = true
		}
		grants := db.news.take()
		if len(grants) == 0 {
			continue
		}
		_, err := db.exec(context.WithoutCancel(ctx), `SELECT pg_notify($1, id) FROM unnest($2::text[]) AS id`, channel, grants)
		if err != nil {
			db.Log.WarnContext(ctx, "changes could not be announced; other replicas show them a little later",
				"grants", len(grants), "error", err)
		}
	}
}

// Listen implements auth.Announcer, on a connection of its own. While there is none, everybody looks over the others.
func (db *DB) Listen(ctx context.Context, changed func(grant string), missed func()) {
	var hears atomic.Bool
	var looks sync.WaitGroup
	defer looks.Wait()
	looks.Go(func() { db.lookDeaf(ctx, &hears, missed) })
	var shared sync.Once
	failing := false
	for delay := listenBackoff / 32; ; delay = min(2*delay, listenBackoff) {
		err := db.listen(ctx, changed, func() {
			delay, failing = listenBackoff/32, false
			hears.Store(true)
			missed()
		})
		hears.Store(false)
		if ctx.Err() != nil {
			return
		}
		switch {
		case errors.Is(err, errShared): // a session that holds for a while would have it said again and again
			shared.Do(func() { db.Log.ErrorContext(ctx, "the database cannot be relied on", "error", err) })
		case !failing:
			db.Log.WarnContext(ctx, "cannot hear of other replicas' renewals; it is tried again", "error", err)
		}
		failing = true
		select {
		case <-time.After(delay/2 + rand.N(delay/2)): //nolint:gosec // spreads load; nothing secret depends on it
		case <-ctx.Done():
			return
		}
	}
}

// lookDeaf has everybody look now and then while nothing is heard.
func (db *DB) lookDeaf(ctx context.Context, hears *atomic.Bool, missed func()) {
	ticker := time.NewTicker(deafLook)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if !hears.Load() && db.readable(ctx) {
			missed()
		}
	}
}

// readable says whether the database can be read, in a read's turn: all who watch would complain of a database that is away, and while
// they still read there is no use in asking them again.
func (db *DB) readable(ctx context.Context) bool {
	return db.queued(ctx, func(ctx context.Context) error {
		_, err := db.exec(ctx, `SELECT 1`)
		return err
	}) == nil
}

func (db *DB) listen(ctx context.Context, changed func(grant string), missed func()) error {
	dial, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	conn, err := pgx.ConnectConfig(dial, patient(db.pool.Config().ConnConfig))
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // it is of no use any more, however it closes
	}()
	if _, err := conn.Exec(dial, `LISTEN `+channel); err != nil {
		return err
	}
	for pulses := 0; ; pulses++ {
		if pulses%pulsesALook == 0 {
			missed()
		}
		if err := hear(ctx, conn, changed); err != nil {
			return err
		}
		ping, cancel := context.WithTimeout(ctx, statementWait)
		_, err := unshared(ping, conn.PgConn())
		cancel()
		if err != nil {
			return err
		}
	}
}

// hear passes on what is announced until the next pulse.
func hear(ctx context.Context, conn *pgx.Conn, changed func(grant string)) error {
	beat, cancel := context.WithTimeout(ctx, pulse)
	defer cancel()
	for {
		notification, err := conn.WaitForNotification(beat)
		switch {
		case err == nil:
			changed(notification.Payload)
		case beat.Err() != nil && ctx.Err() == nil && !conn.IsClosed():
			return nil
		default:
			return err
		}
	}
}
