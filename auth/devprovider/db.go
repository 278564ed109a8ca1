package devprovider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver named "sqlite"
)

// schema is made anew in an empty file. Times are microseconds since 1970; nothing here is a usable token.
const schema = `
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS auth_requests (
	id TEXT PRIMARY KEY, request BLOB NOT NULL, subject TEXT NOT NULL DEFAULT '', auth_time INTEGER NOT NULL DEFAULT 0,
	code_hash TEXT NOT NULL DEFAULT '', code_until INTEGER NOT NULL DEFAULT 0, until INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS auth_requests_code ON auth_requests (code_hash) WHERE code_hash <> '';
CREATE TABLE IF NOT EXISTS families (
	id TEXT PRIMARY KEY, subject TEXT NOT NULL, scopes TEXT NOT NULL, auth_time INTEGER NOT NULL,
	generation INTEGER NOT NULL, rotated_at INTEGER NOT NULL, until INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS families_until ON families (until);
CREATE TABLE IF NOT EXISTS access_tokens (
	id TEXT PRIMARY KEY, family TEXT NOT NULL, subject TEXT NOT NULL, scopes TEXT NOT NULL, until INTEGER NOT NULL,
	revoked INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS access_tokens_family ON access_tokens (family);
CREATE INDEX IF NOT EXISTS access_tokens_until ON access_tokens (until);
`

func openDB(ctx context.Context, dir string) (*sql.DB, error) {
	path := filepath.Join(dir, "dev-provider.sqlite")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(NORMAL)"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return db, nil
}

// keys are what the provider signs, encrypts and derives with.
type keys struct {
	signing *ecdsa.PrivateKey
	crypto  [32]byte
	refresh []byte // HMAC key from which refresh tokens follow
}

// loadKeys reads the keys, after making those that are missing: of two processes that start at once, both read the same.
func loadKeys(ctx context.Context, db *sql.DB) (k keys, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return k, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return k, err
	}
	for name, fresh := range map[string][]byte{"signing": encoded, "crypto": random32(), "refresh": random32()} {
		var kept []byte
		if _, err := db.ExecContext(ctx, `INSERT OR IGNORE INTO secrets (name, value) VALUES (?, ?)`, name, fresh); err != nil {
			return k, fmt.Errorf("keep keys: %w", err)
		}
		if err := db.QueryRowContext(ctx, `SELECT value FROM secrets WHERE name = ?`, name).Scan(&kept); err != nil {
			return k, fmt.Errorf("read keys: %w", err)
		}
		switch name {
		case "signing":
			parsed, err := x509.ParsePKCS8PrivateKey(kept)
			if err != nil {
				return k, fmt.Errorf("read keys: %w", err)
			}
			var ok bool
			if k.signing, ok = parsed.(*ecdsa.PrivateKey); !ok {
				return k, errors.New("read keys: the signing key is no EC key")
			}
		case "crypto":
			copy(k.crypto[:], kept)
		case "refresh":
			k.refresh = kept
		}
	}
	return k, nil
}

func random32() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	return b
}
