package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"keyturn/auth/vault"
)

// Changes implements auth.Journal.
func (db *DB) Changes(ctx context.Context, last int64) (grants []string, newest int64, err error) {
	if last < 0 {
		newest, err = db.count(ctx, `SELECT coalesce(max(id), 0) FROM renewals`)
		return nil, newest, err
	}
	newest = last
	grants, err = many(ctx, db, func(rows vault.Rows) (list []string, err error) {
		for rows.Next() {
			var grant string
			if err := rows.Scan(&newest, &grant); err != nil {
				return nil, err
			}
			list = append(list, grant)
		}
		return list, nil
	}, `SELECT id, grant_id FROM renewals WHERE id > ? ORDER BY id LIMIT 1000`, last)
	if err != nil {
		return nil, last, fmt.Errorf("look for renewals: %w", err)
	}
	return grants, newest, nil
}

// Missing implements auth.Journal.
func (db *DB) Missing(ctx context.Context, ids []string) ([]string, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("look for ended grants: %w", err)
	}
	return many(ctx, db, vault.ScanIDs, `SELECT value FROM json_each(?)
		WHERE NOT EXISTS (SELECT 1 FROM grants WHERE grants.id = value)`, string(list))
}
