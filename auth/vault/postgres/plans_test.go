package postgres

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"keyturn/auth/vault/vaulttest"
)

func TestReadsUseIndexes(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	for query, args := range map[string][]any{
		selectGrant:    {"x", "", 0},
		selectSessions: {[]string{"x"}, 1, []string{"y"}, []int64{1}},
		selectDue:      {"x", 1, true, "heir", 1, 1, "x", 9},
		selectStrays:   {"x", 1, true, "heir", 1, 1, 9},
		selectStruck:   {"x", 1, true, "heir", 9},
		selectOverdue:  {"x", 1, 1, 9},
		holdLeases:     {[]string{"x"}, []int64{1}, "me", 1, "heir"},
	} {
		for _, step := range planOf(t, db, query, args) {
			scan := strings.Contains(step, "Seq Scan") && !strings.Contains(step, "test_clock")
			if scan || strings.Contains(step, "Sort") {
				t.Errorf("%s\n\tis planned as %q", query, step)
			}
		}
	}
}

// A hundred thousand revocations may be owed to one provider: no more than the first and the last are looked at.
func TestWhatIsOwedIsFoundAtTheEndsOfTheQueues(t *testing.T) {
	t.Parallel()
	steps := planOf(t, open(t, vaulttest.NewClock()), selectOwing, []any{1})
	for i, step := range steps {
		if strings.Contains(step, "on owed_revocations") && (!strings.Contains(step, "Index Only Scan") || !strings.Contains(steps[i-1], "Limit")) {
			t.Errorf("planned as %q", step)
		}
	}
}

// planOf is how a query is run where the planner has no reason to read a small table whole.
func planOf(t *testing.T, db testDB, query string, args []any) (steps []string) {
	t.Helper()
	tx, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off`); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), `EXPLAIN `+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	steps, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(steps) == 0 {
		t.Fatalf("no plan: %v", err)
	}
	return steps
}
