package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// milliseconds is statementWait as PostgreSQL's settings take it.
var milliseconds = strconv.FormatInt(statementWait.Milliseconds(), 10)

// always are settings of every session. Those that the server does not have yet are left out.
var always = map[string]string{
	// Who meets a row that another has just changed goes on from what it is now. Stricter levels fail, and nobody tries again.
	"default_transaction_isolation": "read committed",
	// The connection that listens, and those of the pool at night, have nothing to say for long.
	"idle_session_timeout":                "0",
	"idle_in_transaction_session_timeout": milliseconds,
	// No statement is planned anew for its values, which PostgreSQL does for each list of sessions otherwise: all are looked up by the
	// same indexes.
	"plan_cache_mode": "force_generic_plan",
	// A lost commit is a lost session; a stronger setting of the server stays.
	"synchronous_commit": "on",
}

// bounds are settings of every session but the one that migrates, which may take long.
var bounds = map[string]string{
	"statement_timeout":   milliseconds,
	"lock_timeout":        "0", // a shorter one fails where another replica is at the same row
	"transaction_timeout": "0", // a shorter one ends the connection
}

// mark is a setting, and a connection's custom datum, with a value that no other session has.
const mark = "keyturn.session"

const setSettings = `SELECT set_config(key, value, false) FROM json_each_text($1)
	WHERE CASE key WHEN '` + mark + `' THEN true WHEN 'synchronous_commit' THEN current_setting(key) = 'off'
		ELSE current_setting(key, true) IS NOT NULL END`

// settle makes what gives a session its settings, before its first statement. What the URL has given wins, but for commits that may be lost.
// A pooler refuses most settings at the start of a connection, and so this is a statement: one way to the server. It is bounded by itself: the
// driver's bound ends with the login, and a pooler logs a client in before it has a session for it.
func settle(within time.Duration, given map[string]string, settings ...map[string]string) pgconn.AfterConnectFunc {
	own := map[string]string{}
	for _, some := range settings {
		for name, value := range some {
			if _, wins := given[name]; !wins || name == "synchronous_commit" {
				own[name] = value
			}
		}
	}
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		ctx, cancel := context.WithTimeoutCause(ctx, within, errNoSession)
		defer cancel()
		marked := maps.Clone(own)
		marked[mark] = rand.Text()
		conn.CustomData()[mark] = marked[mark]
		text, err := json.Marshal(marked)
		if err == nil {
			err = conn.ExecParams(ctx, setSettings, [][]byte{text}, nil, nil, nil).Read().Err
		}
		if err != nil {
			return fmt.Errorf("set up session: %w", cmp.Or(context.Cause(ctx), err))
		}
		return nil
	}
}

// errNoSession says that a server took a connection and then answered nothing.
var errNoSession = errors.New("no answer after the login in time; a connection pooler in front of PostgreSQL may have no session left " +
	"(PgBouncer: default_pool_size)")

// errShared says that statements of one connection run in sessions of others. Neither settings nor prepared statements hold then, no lock of
// a session's is held, and nothing is heard.
var errShared = errors.New("the connection pooler in front of PostgreSQL works by transaction, and has to work by session " +
	"(PgBouncer: pool_mode = session)")

// unshared says whether a connection is still in the session that was set up for it, with errShared if not, and which of the server's
// processes that is.
func unshared(ctx context.Context, conn *pgconn.PgConn) (process string, err error) {
	answer := conn.ExecParams(ctx, `SELECT current_setting($1, true), pg_backend_pid()`, [][]byte{[]byte(mark)}, nil, nil, nil).Read()
	if answer.Err != nil {
		return "", answer.Err
	}
	if string(answer.Rows[0][0]) != conn.CustomData()[mark] {
		return "", errShared
	}
	return string(answer.Rows[0][1]), nil
}

// bySession returns errShared if there is a pooler that does not work by session, as far as that can be told at once. A pooler gives out the
// session that was given back last, or the one that was longest ago: with two connections, either is noticed.
func bySession(ctx context.Context, config *pgx.ConnConfig) (err error) {
	one, err := pgconn.ConnectConfig(ctx, &patient(config).Config)
	if err != nil {
		return err
	}
	defer func() { _ = one.Close(context.WithoutCancel(ctx)) }()
	process, err := unshared(ctx, one)
	if err != nil || process == fmt.Sprint(one.PID()) { // the server's own word: there is nothing in between
		return err
	}
	dial, cancel := context.WithTimeout(ctx, dialWait) // a pooler lets wait whom it has no session for
	defer cancel()
	two, err := pgconn.ConnectConfig(dial, &config.Config)
	if err != nil {
		return nil // a second connection is not needed but for this
	}
	defer func() { _ = two.Close(context.WithoutCancel(ctx)) }()
	for _, conn := range []*pgconn.PgConn{one, one, two, two} {
		if _, err := unshared(ctx, conn); err != nil {
			return err
		}
	}
	return nil
}

// onlyReads is whether sessions write nothing unless they say so. That is not overridden: somebody means it, or the disk is full.
const onlyReads = `current_setting('default_transaction_read_only')::boolean`

func readsAdvice(role string) string {
	return fmt.Sprintf("the role %s can write nothing, because default_transaction_read_only is on for it, for the database or for the server: "+
		"ALTER ROLE %[1]s SET default_transaction_read_only = off", role)
}

// warnOfReading says at the start why nothing will be written. It may be meant to end by itself.
func (db *DB) warnOfReading(ctx context.Context) error {
	var reads bool
	var role string
	err := db.one(ctx, into(&reads, &role), `SELECT `+onlyReads+`, quote_ident(current_user)`)
	if err == nil && reads {
		db.Log.WarnContext(ctx, readsAdvice(role))
	}
	return err
}
