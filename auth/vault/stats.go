package vault

import (
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/pressly/goose/v3"
)

// Census is how much there is in a vault.
type Census struct {
	Sessions int64 // in which somebody is signed in; those that have just ended may be among them
	Grants   int64
	Owed     int64 // revocations
}

// Pool tells of an engine's connections.
type Pool struct {
	InUse, Idle, Most int
	Waits             int64         // for a connection, so far
	Waited            time.Duration // in all of them together
}

// SchemaVersion is the query for the version of the schema that a database has.
const SchemaVersion = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`

// ErrLacksMigration says that a database has an older schema than this program knows, or none.
var ErrLacksMigration = errors.New("the database lacks a migration")

// Migrated returns ErrLacksMigration if a database of the version have lacks one of the migrations. A newer one does not: while
// replicas are replaced one after the other, the old ones work on the schema of the new.
func Migrated(migrations embed.FS, have int64) error {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	for _, file := range files {
		version, err := goose.NumericComponent(file.Name())
		if err != nil {
			return err
		}
		if version > have {
			return fmt.Errorf("%w: it has schema version %d, and not %s", ErrLacksMigration, have, file.Name())
		}
	}
	return nil
}
