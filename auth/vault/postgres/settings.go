package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// milliseconds is statementWait as PostgreSQL's settings take it.
var milliseconds = strconv.FormatInt(statementWait.Milliseconds(), 10)

// always are settings of every session.
var always = map[string]string{
	"idle_in_transaction_session_timeout": milliseconds,
	// No statement is planned anew for its values, which PostgreSQL does for each list of sessions otherwise: all are looked up by the
	// same indexes.
	"plan_cache_mode": "force_generic_plan",
	// A lost commit is a lost session; a stronger setting of the server stays.
	"synchronous_commit": "on",
}

// bounds are settings of every session but the one that migrates, which may take long.
var bounds = map[string]string{
	"statement_timeout": milliseconds,
}

const setSettings = `SELECT set_config(key, value, false) FROM json_each_text($1)
	WHERE key <> 'synchronous_commit' OR current_setting(key) = 'off'`

// settle makes what gives a session its settings, before its first statement. What the URL has given wins, but for commits that may be lost.
// A pooler refuses most settings at the start of a connection, and so this is a statement: one way to the server.
func settle(given map[string]string, settings ...map[string]string) pgconn.AfterConnectFunc {
	own := map[string]string{}
	for _, some := range settings {
		for name, value := range some {
			if _, wins := given[name]; !wins || name == "synchronous_commit" {
				own[name] = value
			}
		}
	}
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		text, err := json.Marshal(own)
		if err == nil {
			err = conn.ExecParams(ctx, setSettings, [][]byte{text}, nil, nil, nil).Read().Err
		}
		if err != nil {
			return fmt.Errorf("set up session: %w", err)
		}
		return nil
	}
}
