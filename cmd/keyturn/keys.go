package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"keyturn/auth/session"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/spool"
)

// manageKeys runs the keys commands. They are safe while a server runs on the same files: it notices a rotated keyset by
// itself, and a grant that changes while it is resealed keeps what was written then.
func manageKeys(ctx context.Context, settings Settings, what string, log *slog.Logger, stdout io.Writer) (err error) {
	db, keys, err := openVaultFor(ctx, settings, log, stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	switch what {
	case commandKeysRotate:
		key, err := keys.Rotate()
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "Key %d seals from now on. Grants sealed before open with the old keys, and are sealed anew when they renew "+
			"or by \"keyturn keys reseal\".\n", key.ID)
	case commandKeysReseal:
		resealed, unreadable, err := db.Reseal(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%d grants sealed anew.\n", resealed)
		if unreadable > 0 {
			return fmt.Errorf("%d grants do not open with any key of the keyset; they were left as they are", unreadable)
		}
	case commandKeysRetire:
		return retireKeys(ctx, settings, db, keys, stdout)
	default:
		for _, key := range keys.Keys() {
			note := ""
			if key.Primary {
				note = " (seals)"
			}
			fmt.Fprintf(stdout, "%d%s\n", key.ID, note)
		}
	}
	return nil
}

// openVaultFor opens the vault for a command, and says when there was none: a mistyped data dir is easily taken for the right one.
func openVaultFor(ctx context.Context, settings Settings, log *slog.Logger, stdout io.Writer) (database, *keyset.File, error) {
	_, missing := os.Stat(settings.KeysetFile)
	db, keys, err := openVault(ctx, settings, log)
	if err == nil && errors.Is(missing, fs.ErrNotExist) {
		fmt.Fprintf(stdout, "There was no keyset: %s is new.\n", settings.KeysetFile)
	}
	return db, keys, err
}

// settleTime is how long what another key sealed may be needed without being counted: a sign-in that is not done yet, or a renewal that
// a running server is about to store, for which a minute is enough.
const settleTime = session.PendingLifetime + time.Minute

// retireKeys removes the keys that seal nothing: in the database, in this data dir's spool, or of a sign-in that began with them.
func retireKeys(ctx context.Context, settings Settings, db database, keys *keyset.File, stdout io.Writer) error {
	if left := settleTime - time.Since(keys.ChangedAt()); left > 0 {
		return fmt.Errorf("the keyset was changed less than %d min ago, and a sign-in that began before still needs an older key; "+
			"try again in %d min", int(settleTime.Minutes()), int(left.Minutes())+1)
	}
	unstored, err := spool.Open(settings.spoolDir(), vault.Sealer{Keys: keys})
	if err != nil {
		return err
	}
	grants, err := vault.Uses(func(after string) (vault.Sealed, error) { return db.SealedAfter(ctx, after) })
	if err != nil {
		return err
	}
	waiting, err := vault.Uses(unstored.SealedAfter)
	if err != nil {
		return err
	}
	retired, err := keys.Retire(func(id uint32) bool { return grants[id]+waiting[id] > 0 })
	if err != nil {
		return err
	}
	for _, key := range retired {
		fmt.Fprintf(stdout, "Key %d is retired.\n", key.ID)
	}
	for _, key := range keys.Keys() {
		if !key.Primary {
			fmt.Fprintf(stdout, "Key %d stays: it seals %d grants, and %d renewals that wait in the spool. \"keyturn keys reseal\" frees it.\n",
				key.ID, grants[key.ID], waiting[key.ID])
		}
	}
	if len(retired) == 0 {
		fmt.Fprintln(stdout, "No key is retired.")
	}
	return nil
}
