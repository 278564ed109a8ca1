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
	if what == commandKeysCreate {
		return createKeyset(ctx, settings, stdout)
	}
	db, keys, err := openExistingVault(ctx, settings, log)
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
	case commandKeysList:
		for _, key := range keys.Keys() {
			note := ""
			if key.Primary {
				note = " (seals)"
			}
			fmt.Fprintf(stdout, "%d%s\n", key.ID, note)
		}
	default:
		return fmt.Errorf("unknown command %q", what)
	}
	return nil
}

// createKeyset makes the keyset of a database that is to come.
func createKeyset(ctx context.Context, settings Settings, stdout io.Writer) error {
	switch _, err := os.Stat(settings.KeysetFile); {
	case err == nil:
		return fmt.Errorf("--keyset-file (KEYTURN_KEYSET_FILE): %s exists; it stays as it is", settings.KeysetFile)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--keyset-file (KEYTURN_KEYSET_FILE): %w", err)
	}
	holds, err := holdsGrants(ctx, settings)
	if err != nil {
		return unusable(settings, err)
	}
	if _, err := newKeyset(settings, holds); err != nil {
		return fmt.Errorf("--keyset-file (KEYTURN_KEYSET_FILE): %w", err)
	}
	fmt.Fprintf(stdout, "%s is new. Keep a copy of it apart from the database.\n", settings.KeysetFile)
	return nil
}

// settleTime is how long a running server may take to store what it sealed with the key that was primary before.
const settleTime = 15 * time.Second

// retireKeys removes the keys that seal nothing: in the database, in this data dir's spool, or of a sign-in that is under way.
func retireKeys(ctx context.Context, settings Settings, db database, keys *keyset.File, stdout io.Writer) error {
	if left := settleTime - time.Since(keys.ChangedAt()); left > 0 {
		fmt.Fprintf(stdout, "The keyset has just changed: waiting %d s for what running servers still store.\n", int(left.Seconds())+1)
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	grants, err := vault.CountByKey(func(after string) (vault.Sealed, error) { return db.SealedAfter(ctx, after) })
	if err != nil {
		return err
	}
	waiting, err := usesOfSpool(settings.spoolDir(), keys)
	if err != nil {
		return err
	}
	signIns, err := usesOfSignIns(ctx, db, keys)
	if err != nil {
		return err
	}
	retired, err := keys.Retire(func(id uint32) bool { return grants[id]+waiting[id]+signIns[id] > 0 })
	if err != nil {
		return err
	}
	for _, key := range retired {
		fmt.Fprintf(stdout, "Key %d is retired.\n", key.ID)
	}
	for _, key := range keys.Keys() {
		if !key.Primary {
			fmt.Fprintf(stdout, "Key %d stays: it seals %d grants, %d renewals that wait in the spool, and %d sign-ins under way. "+
				"A grant that has ended counts until its tokens are revoked. \"keyturn keys reseal\" seals grants anew; what waits is stored when the database is well; "+
				"a sign-in takes ten minutes at most.\n", key.ID, grants[key.ID], waiting[key.ID], signIns[key.ID])
		}
	}
	if len(retired) == 0 {
		fmt.Fprintln(stdout, "No key is retired.")
	}
	return nil
}

// usesOfSignIns counts by key the sign-ins that may still come back.
func usesOfSignIns(ctx context.Context, db database, keys *keyset.File) (map[uint32]int, error) {
	list, err := db.SessionValues(ctx)
	uses := map[uint32]int{}
	for _, data := range list {
		for _, sealed := range session.AwaitedSeals(data, vault.Sealer{Keys: keys}, time.Now()) {
			if id, ok := vault.KeyOf(sealed); ok {
				uses[id]++
			}
		}
	}
	return uses, err
}

// usesOfSpool counts by key what waits in a spool, which need not be there.
func usesOfSpool(dir string, keys *keyset.File) (map[uint32]int, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	unstored, err := spool.Open(dir, vault.Sealer{Keys: keys})
	if err != nil {
		return nil, err
	}
	return vault.CountByKey(unstored.SealedAfter)
}
