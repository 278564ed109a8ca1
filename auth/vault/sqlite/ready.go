package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// probeEvery is how often, at the most, readiness costs a write, however often it is asked for.
const probeEvery = time.Second

// probe is the latest write that was made only to see whether it can be.
type probe struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// due says whether it is the caller's to write.
func (p *probe) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) < probeEvery {
		return false
	}
	p.at = time.Now()
	return true
}

func (p *probe) done(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// undone leaves the write to the next who asks.
func (p *probe) undone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = time.Time{}
}

func (p *probe) result() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// inPlace says whether the file that is open is still the one at its path: what is written to another is gone when the process ends.
// Nothing is written then, as on a full disk. It costs about a microsecond.
func (db *DB) inPlace() error {
	there, err := os.Stat(db.Path)
	if err == nil && os.SameFile(there, db.file) {
		return nil
	}
	return fmt.Errorf("the database file that is open is not at %s any more: nothing is stored until it is back, or Keyturn is started again: %w",
		db.Path, cmp.Or(err, errors.New("there is another")))
}

// Ready says whether the database answers and can be written to, at the place where it is looked for. A full disk shows only when a page
// is written.
func (db *DB) Ready(ctx context.Context) error {
	if err := db.inPlace(); err != nil {
		return err
	}
	write := db.probe.due()
	err := db.inTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`UPDATE sessions SET seen_at = seen_at WHERE token_hash = ''`)
		if err == nil && write {
			err = tx.exec(`PRAGMA user_version = 0`) // writes the first page; nothing reads the number
		}
		return err
	}, elsewhere)
	switch {
	case !write:
		return errors.Join(err, db.probe.result())
	case ctx.Err() != nil:
		db.probe.undone()
	default:
		db.probe.done(err)
	}
	return err
}
