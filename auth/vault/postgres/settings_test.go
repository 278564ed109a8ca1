package postgres

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// settingIn is a setting of a session as a connection of that configuration begins it.
func settingIn(t *testing.T, config *pgx.ConnConfig, name string) (value string) {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestAPoolerThatWorksBySession(t *testing.T) {
	t.Parallel()
	database := pgtest.Pooled(t, pgtest.Database(t), false)
	create(t, connect(t, database, vaulttest.Keyset(t)))
	if holds, err := HoldsGrants(t.Context(), auth.Secret(database)); !holds || err != nil {
		t.Errorf("holds grants: %v, %v", holds, err)
	}
}

func TestAPoolerThatWorksByTransactionIsRefused(t *testing.T) {
	t.Parallel()
	database := pgtest.Pooled(t, pgtest.Database(t), true)
	_, err := Open(t.Context(), Options{URL: auth.Secret(database), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, errShared) {
		t.Errorf("opened: %v", err)
	}
}

// A pooler that has no session left lets clients in all the same, and then wait.
func TestAPoolerThatHasNoSessionIsNotWaitedForForLong(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			client := pgproto3.NewBackend(conn, conn)
			if _, err := client.ReceiveStartupMessage(); err != nil {
				continue // a statement is to be cancelled
			}
			client.Send(&pgproto3.AuthenticationOk{})
			client.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: make([]byte, 4)})
			client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			_ = client.Flush()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	config, err := configure(auth.Secret("postgres://" + listener.Addr().String() + "/keyturn?sslmode=disable"))
	if err != nil {
		t.Fatal(err)
	}
	if bound := patience(config.ConnConfig); bound != startWait {
		t.Errorf("it is waited for for %v", bound)
	}
	config.ConnConfig.AfterConnect = settle(50*time.Millisecond, nil, always)
	if _, err := pgx.ConnectConfig(t.Context(), config.ConnConfig); !errors.Is(err, errNoSession) {
		t.Errorf("connected: %v", err)
	}
}

// A pooler may have been told only after the start, or have been so idle that one connection had the same session all the time.
func TestAPoolerThatWorksByTransactionIsNamedLaterOn(t *testing.T) {
	t.Parallel()
	config, err := configure(auth.Secret(pgtest.Pooled(t, pgtest.Database(t), true)))
	if err != nil {
		t.Fatal(err)
	}
	config.MinConns = 0
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	log := &authtest.Buffer{}
	db := &DB{Options: Options{Log: slog.New(slog.NewTextHandler(log, nil))}, pool: pool, readers: make(chan struct{}, 1)}
	h := listenAt(t, db)
	if err := pool.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, "it to listen once more", h.missed)
	if !strings.Contains(log.String(), errShared.Error()) {
		t.Errorf("the log says %q", log)
	}
}

// What the URL says wins, but for a commit that may be lost, and for how long a migration may take.
func TestSettingsOfASession(t *testing.T) {
	t.Parallel()
	plain := pgtest.Database(t)
	for _, c := range []struct{ parameters, name, value, migrating string }{
		{"", "application_name", "keyturn", "keyturn"},
		{"", "statement_timeout", "3s", "0"},
		{"", "idle_in_transaction_session_timeout", "3s", "3s"},
		{"", "plan_cache_mode", "force_generic_plan", "force_generic_plan"},
		{"&default_transaction_isolation=serializable", "default_transaction_isolation", "serializable", "serializable"},
		{"&application_name=mine", "application_name", "mine", "mine"},
		{"&statement_timeout=5000", "statement_timeout", "5s", "0"},
		{"&synchronous_commit=off", "synchronous_commit", "on", "on"},
		{"&synchronous_commit=remote_apply", "synchronous_commit", "remote_apply", "remote_apply"},
	} {
		config, err := configure(auth.Secret(plain + c.parameters))
		if err != nil {
			t.Fatal(err)
		}
		if value := settingIn(t, config.ConnConfig, c.name); value != c.value {
			t.Errorf("with %q, %s is %s, want %s", c.parameters, c.name, value, c.value)
		}
		if value := settingIn(t, migrating(config.ConnConfig), c.name); value != c.migrating {
			t.Errorf("with %q, %s is %s in a migration, want %s", c.parameters, c.name, value, c.migrating)
		}
	}
}

// Several hosts are no URL to net/url with IPv6 addresses among them.
func TestTheSizeOfThePoolBySeveralHosts(t *testing.T) {
	t.Parallel()
	for parameters, most := range map[string]int32{"": connections, "?pool_max_conns=3": 3} {
		config, err := configure(auth.Secret("postgres://u@[::1]:5432,[::1]:5433/k" + parameters))
		if err != nil || config.MaxConns != most || config.MinConns != most || len(config.ConnConfig.Fallbacks) == 0 {
			t.Errorf("%q: %+v, %v", parameters, config, err)
		}
	}
}

// What an operator sets for everybody, or for whoever uses the database by hand, makes nothing fail at random. How long a migration may wait
// is the operator's to say.
func TestSettingsOfARole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ role, session, migrating string }{
		"default_transaction_isolation":       {"serializable", "read committed", "read committed"},
		"idle_session_timeout":                {"2s", "0", "0"},
		"idle_in_transaction_session_timeout": {"1ms", "3s", "3s"},
		"statement_timeout":                   {"70s", "3s", "70s"},
		"lock_timeout":                        {"20ms", "0", "20ms"},
		"plan_cache_mode":                     {"force_custom_plan", "force_generic_plan", "force_generic_plan"},
		"work_mem":                            {"7MB", "7MB", "7MB"},
	} {
		set := "ALTER ROLE $role SET " + name + " = '" + c.role + "'"
		config, err := configure(auth.Secret(ofRole(t, pgtest.Database(t), "CREATE ROLE $role LOGIN", set)))
		if err != nil {
			t.Fatal(err)
		}
		session, migration := settingIn(t, config.ConnConfig, name), settingIn(t, migrating(config.ConnConfig), name)
		if session != c.session || migration != c.migrating {
			t.Errorf("%s is %s, and %s in a migration, want %s and %s", name, session, migration, c.session, c.migrating)
		}
	}
}

// Whoever runs a database that was well until then reads why nobody can sign in any more.
func TestARoleThatOnlyReadsIsNamedAtTheStart(t *testing.T) {
	t.Parallel()
	database, keys := pgtest.Database(t), vaulttest.Keyset(t)
	connect(t, database, keys) // makes the schema
	log := &authtest.Buffer{}
	db, err := Open(t.Context(), Options{
		URL: auth.Secret(database + "&default_transaction_read_only=on"), Now: time.Now, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if said := "ALTER ROLE keyturn SET default_transaction_read_only = off"; !strings.Contains(log.String(), said) {
		t.Errorf("the log says %q, not %q", log, said)
	}
}
