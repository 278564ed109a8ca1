package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// manageKeys runs the keys commands. They are safe while a server runs on the same files: it notices a rotated keyset by
// itself, and a grant that changes while it is resealed keeps what was written then.
func manageKeys(ctx context.Context, settings Settings, what command, log *slog.Logger, stdout io.Writer) (err error) {
	db, keys, err := openVault(ctx, settings, log)
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
		fmt.Fprintf(stdout, "Key %d seals from now on. Grants sealed before open with the old keys, and are sealed anew when they renew or by \"keyturn keys reseal\".\n", key.ID)
	case commandKeysReseal:
		resealed, unreadable, err := db.Reseal(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%d grants sealed anew.\n", resealed)
		if unreadable > 0 {
			return fmt.Errorf("%d grants do not open with any key of the keyset; they were left as they are", unreadable)
		}
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
