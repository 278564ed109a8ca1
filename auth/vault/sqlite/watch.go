package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
)

// Changes implements auth.Journal.
func (db *DB) Changes(ctx context.Context, last int64) (grants []string, newest int64, err error) {
	if last < 0 {
		err := db.read.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM renewals`).Scan(&newest)
		return nil, newest, err
	}
	rows, err := db.read.QueryContext(ctx, `SELECT id, grant_id FROM renewals WHERE id > ? ORDER BY id LIMIT 1000`, last)
	if err != nil {
		return nil, last, err
	}
	defer rows.Close()
	newest = last
	for rows.Next() {
		var grant string
		if err := rows.Scan(&newest, &grant); err != nil {
			return nil, last, err
		}
		grants = append(grants, grant)
	}
	return grants, newest, rows.Err()
}

// Missing implements auth.Journal.
func (db *DB) Missing(ctx context.Context, ids []string) ([]string, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	rows, err := db.read.QueryContext(ctx, `SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM grants WHERE grants.id = value)`, string(list))
	if err != nil {
		return nil, fmt.Errorf("look for ended grants: %w", err)
	}
	defer rows.Close()
	var missing []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		missing = append(missing, id)
	}
	return missing, rows.Err()
}
