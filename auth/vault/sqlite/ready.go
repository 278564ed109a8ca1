package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
)

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
	write := db.probe.Due()
	err := db.inTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`UPDATE sessions SET seen_at = seen_at WHERE token_hash = ''`)
		if err == nil && write {
			err = tx.exec(`PRAGMA user_version = 0`) // writes the first page; nothing reads the number
		}
		return err
	}, elsewhere)
	switch {
	case !write:
		return errors.Join(err, db.probe.Result())
	case ctx.Err() != nil:
		db.probe.Undone()
	default:
		db.probe.Done(err)
	}
	return err
}
