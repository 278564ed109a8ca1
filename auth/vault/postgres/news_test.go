package postgres

import (
	"testing"
	"time"

	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// A replica that cannot listen still has the connections of its pool.
func TestWithoutAConnectionToListenOnEverybodyLooks(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	role := ofRole(t, database, "CREATE ROLE $role LOGIN", "ALTER DATABASE $database OWNER TO $role")
	db := connect(t, role, vaulttest.Keyset(t))
	h := listenAt(t, db)
	ofRole(t, database, "ALTER ROLE $role CONNECTION LIMIT 1")
	cut, err := operatorOf(t, database).Exec(t.Context(), `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE 'LISTEN%'`)
	if err != nil || cut.RowsAffected() != 1 {
		t.Fatalf("%v, %v", cut, err)
	}
	for range 2 {
		soon(t, "it to look without having listened", h.missed)
	}
}

// Each open page would complain of what it could not read.
func TestNobodyLooksWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	db := connect(t, server.Database(t), vaulttest.Keyset(t))
	h := listenAt(t, db)
	server.Stop()
	select {
	case <-h.missed:
		t.Error("it looks into a database that is away")
	case <-time.After(2 * deafLook):
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	soon(t, "it to look after the gap", h.missed)
}
