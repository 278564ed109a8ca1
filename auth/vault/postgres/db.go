// Package postgres keeps grants and sessions in a PostgreSQL database that many replicas share.
package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"keyturn/auth"
	"keyturn/auth/vault"
	"keyturn/auth/vault/owners"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// connections is how many the pool has, unless the URL says pool_max_conns or pool_min_conns. It has them all the time:
	// to make one takes PostgreSQL long when many are asked for at once, as when a crowd meets at an expiry.
	connections = 10
	// rememberedSessions bounds of how many sessions it is remembered which grant they have.
	rememberedSessions = 2048
	// dialWait and statementWait bound what one use of the database takes, so that whoever waits gets a clear answer.
	dialWait      = 2 * time.Second
	statementWait = 3 * time.Second
	// startWait bounds a connection that no request waits for. A server that is not there refuses at once.
	startWait = 30 * time.Second
	// startSaid is after how long a start says what it waits for.
	startSaid = 5 * time.Second
)

// Options are what a database is opened with.
type Options struct {
	URL         auth.Secret // postgres://…, as pgxpool understands it
	Existing    bool        // neither make nor migrate the schema
	Sealer      vault.Sealer
	Owners      string           // what the paths of this process's files begin with that tell who died; empty: leases only run out
	SessionIdle time.Duration    // a session unseen for this long is gone; 0: never
	Now         func() time.Time // this process's clock; leases and sessions go by the database's
	Log         *slog.Logger
}

// DB is an open database: the vault of grants and, through Sessions, the store of sessions. It is safe for concurrent use,
// and any number of processes may have the same database open.
type DB struct {
	Options
	pool    *pgxpool.Pool
	readers chan struct{} // one for each read under way
	marks   vault.Marks
	orphans vault.Orphans
	owners  *owners.Owners
	unowned auth.Complaint // that the next process cannot know of this one's death
	apart   auth.Complaint // of clocks
	heir    string         // owns the leases that this process has inherited
	steady  vault.Steadiness
	probe   vault.Probe
	full    atomic.Int64  // when the database had no room for something the last time, in Unix nanoseconds
	answers atomic.Int64  // how many the database has given
	chance  time.Duration // firstChance, but for tests whose clock stands still
	opened  vault.Opened
	finder  finder
	grantOf *lru.Cache[string, string] // grants by the hash of their session
	news    news
	open    context.Context // until Close
	stop    context.CancelFunc
	upkeep  sync.WaitGroup

	searching sync.WaitGroup // those that no request runs
}

// Open connects, migrates the database and begins to keep it tidy until Close. No error of it shows the password. With Existing
// it does not migrate: the error is vault.ErrLacksMigration where that would be needed. No pooler that works by transaction is accepted.
func Open(ctx context.Context, options Options) (*DB, error) {
	config, err := configure(options.URL)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	most := int(config.MaxConns)
	db := &DB{Options: options, news: newNews(), readers: make(chan struct{}, max(1, most*3/4)), owners: owners.New(options.Owners), heir: rand.Text()}
	db.unowned.Every, db.apart.Every = time.Minute, time.Hour
	db.chance = firstChance
	db.opened = vault.NewOpened()
	if db.grantOf, err = lru.New[string, string](rememberedSessions); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	waiting := time.AfterFunc(startSaid, func() { db.Log.WarnContext(ctx, "waiting for the database") })
	defer waiting.Stop()
	if err := bySession(ctx, config.ConnConfig); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	prepare := migrate
	if options.Existing {
		prepare = migrated
	}
	if err := prepare(ctx, config.ConnConfig); err != nil {
		return nil, err
	}
	if db.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	_, err = db.heed(ctx)
	db.report(err)
	db.report(db.warnOfReading(ctx))
	db.steady.Wait(afterStart) // it may have waited for the database
	db.report(db.inherit(ctx))
	db.open, db.stop = context.WithCancel(context.WithoutCancel(ctx))
	db.upkeep.Go(func() { vault.Upkeep(db.open, db.Log, db.writeMarks, db.Tidy, db.writeMarks) })
	db.upkeep.Go(func() { db.announce(db.open) })
	return db, nil
}

// configure turns the URL into settings. What the URL itself says wins.
func configure(text auth.Secret) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(text.Reveal())
	var unparsed *pgconn.ParseConfigError
	if errors.As(err, &unparsed) {
		// Its own words quote the URL. The reason below does not; a URL that is none may hold the password anywhere.
		if _, notURL := url.Parse(text.Reveal()); notURL != nil || errors.Unwrap(unparsed) == nil {
			return nil, errors.New("the URL is not one that PostgreSQL's driver understands")
		}
		return nil, fmt.Errorf("the URL has %s that cannot be used: %w", partAtFault(text.Reveal()), errors.Unwrap(unparsed))
	}
	if err != nil {
		return nil, errors.New("the URL cannot be used")
	}
	given := Parameters(text)
	if !given.Has("pool_max_conns") {
		config.MaxConns = connections
	}
	if !given.Has("pool_min_conns") {
		config.MinConns = config.MaxConns
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = dialWait
	}
	config.PingTimeout = dialWait
	if given := config.ConnConfig.RuntimeParams; given["application_name"] == "" {
		given["application_name"] = "keyturn"
	}
	config.ConnConfig.AfterConnect = settle(patience(config.ConnConfig), config.ConnConfig.RuntimeParams, always, bounds)
	return config, nil
}

// Check says what of a URL cannot be used, whether or not there is a database. The error quotes no value that may be secret.
func Check(text auth.Secret) error {
	_, err := configure(text)
	return err
}

// Parameters are those of a URL, which need not be one to net/url: several hosts are none to it with IPv6 addresses among them.
func Parameters(text auth.Secret) url.Values {
	_, query, _ := strings.Cut(text.Reveal(), "?")
	given, _ := url.ParseQuery(query) // the driver says what is wrong with it
	return given
}

// partAtFault names what the URL could be used without.
func partAtFault(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a part"
	}
	for name := range u.Query() {
		others, rest := *u, u.Query()
		rest.Del(name)
		others.RawQuery = rest.Encode()
		if _, err := pgxpool.ParseConfig(others.String()); err == nil {
			return "a parameter " + strconv.Quote(name)
		}
	}
	return "a part"
}

// patience bounds a connection that no request waits for, unless the URL gives it longer.
func patience(config *pgx.ConnConfig) time.Duration { return max(config.ConnectTimeout, startWait) }

// patient is the configuration of a connection that no request waits for.
func patient(config *pgx.ConnConfig) *pgx.ConnConfig {
	config = config.Copy()
	config.ConnectTimeout = patience(config)
	return config
}

// migrating is the configuration of a connection whose statements may take long.
func migrating(config *pgx.ConnConfig) *pgx.ConnConfig {
	config = patient(config)
	delete(config.RuntimeParams, "statement_timeout")
	config.AfterConnect = settle(patience(config), config.RuntimeParams, always)
	return config
}

// migrate brings the schema up to date. One process at a time does: replicas may start together.
func migrate(ctx context.Context, config *pgx.ConnConfig) (err error) {
	pool := stdlib.OpenDB(*migrating(config))
	defer func() { err = errors.Join(err, pool.Close()) }()
	if err := mayMigrate(ctx, pool); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, pool, files, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	// The lock is waited for in whole seconds: nobody who needs nothing takes it.
	if pending, err := provider.HasPending(ctx); err == nil && !pending {
		return nil
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate database: %w", advised(err, config.User))
	}
	return nil
}

// mayMigrate says what a role lacks that is to make the first tables. From goose one would only hear that they do not exist.
func mayMigrate(ctx context.Context, pool *sql.DB) error {
	var begun, may, reads bool
	var role, schema, path string
	err := pool.QueryRowContext(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL,
		coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), `+onlyReads+`,
		quote_ident(current_user), coalesce(quote_ident(current_schema()), ''), current_setting('search_path')`).Scan(
		&begun, &may, &reads, &role, &schema, &path)
	switch {
	case err != nil || begun || may && !reads:
		return err
	case reads:
		return errors.New(readsAdvice(role))
	case schema == "":
		return fmt.Errorf("the search path (%s) has no schema in it that exists and that the role %s may use: CREATE SCHEMA AUTHORIZATION %[2]s, "+
			"or set search_path", path, role)
	default:
		return fmt.Errorf("the role %s may create no tables in the schema %s: GRANT CREATE ON SCHEMA %[2]s TO %[1]s, or make the role the "+
			"database's owner", role, schema)
	}
}

// migrated says whether the schema is up to date.
func migrated(ctx context.Context, config *pgx.ConnConfig) error {
	var have int64
	if err := look(ctx, config, "goose_db_version", vault.SchemaVersion, &have); err != nil {
		return err
	}
	return vault.Migrated(migrations, have)
}

// HoldsGrants says whether the database has grants in it, without opening it for use.
func HoldsGrants(ctx context.Context, text auth.Secret) (holds bool, err error) {
	config, err := configure(text)
	if err != nil {
		return false, fmt.Errorf("open database: %w", err)
	}
	err = look(ctx, config.ConnConfig, "grants", `SELECT EXISTS (SELECT 1 FROM grants)`, &holds)
	return holds, err
}

// look reads one value of a table, if there is one of that name, on a connection of its own.
func look(ctx context.Context, config *pgx.ConnConfig, table, query string, into any) (err error) {
	conn, err := pgx.ConnectConfig(ctx, patient(config))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var exists bool
	err = conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&exists)
	if err == nil && exists {
		err = conn.QueryRow(ctx, query).Scan(into)
	}
	if err != nil {
		return fmt.Errorf("look into database: %w", advised(err, config.User))
	}
	return nil
}

// advised adds what to grant to an error that says that the role may not do something.
func advised(err error, role string) error {
	if refused := new(pgconn.PgError); errors.As(err, &refused) && refused.Code == "42501" { // insufficient_privilege
		return fmt.Errorf("%w: make the role %s the owner of the database and its tables, or GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES, "+
			"and EXECUTE ON ALL FUNCTIONS, IN SCHEMA … TO it", err, role)
	}
	return err
}

// Close stores what is not yet stored and closes the connections.
func (db *DB) Close() error {
	db.stop()
	db.upkeep.Wait()
	db.searching.Wait()
	db.report(db.owners.Release()) // what is not stored yet is inherited by the next process
	db.pool.Close()
	return nil
}
