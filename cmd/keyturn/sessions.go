package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"keyturn/auth"
)

// sessionsPage is how many sessions are read at a time.
const sessionsPage = 1000

// manageSessions runs the sessions commands. They are safe while servers run on the same database, which notice by themselves what
// has ended: a request in flight does not bring it back.
func manageSessions(ctx context.Context, settings Settings, what command, log *slog.Logger, stdout io.Writer) (err error) {
	db, _, err := openExistingVault(ctx, settings, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if what.name == commandSessionsList {
		return listSessions(ctx, db, what, stdout)
	}
	return endSessions(ctx, settings, db, what, log, stdout)
}

func listSessions(ctx context.Context, db database, what command, stdout io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROVIDER\tSUBJECT\tSIGNED IN\tLAST SEEN\tGENERATION\tADDRESS\tBROWSER")
	for after := ""; ; {
		list, err := db.Live(ctx, what.person, after, sessionsPage)
		for _, g := range list {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", g.Identity.Provider, printable(g.Identity.Subject),
				g.CreatedAt.Format(time.RFC3339), g.SeenAt.Format(time.RFC3339), g.Generation, printable(g.IP), printable(g.UserAgent))
		}
		if err = errors.Join(err, table.Flush()); err != nil || len(list) == 0 {
			return err
		}
		after = list[len(list)-1].ID
	}
}

// endSessions ends sessions and their grants, and revokes the tokens as a sign-out does. It fails if anybody's are left alive that were
// to be revoked.
func endSessions(ctx context.Context, settings Settings, db database, what command, log *slog.Logger, stdout io.Writer) error {
	base := settings.publicURL(nil)
	client, err := existingDevClient(settings, base)
	if err != nil {
		return err
	}
	providers, err := newProviders(settings, client, base, log)
	if err != nil {
		return err
	}
	grants := auth.NewGrants(db, providers, auth.DefaultCallbacks(), &auth.Events{}, time.Now, log)
	revocations := auth.NewRevocations(db, providers, log)
	revoke := revocations.Begin
	if what.withoutRevoking {
		revoke = nil
	} else if unknown, err := grants.Unconfigured(ctx, what.person); err != nil || len(unknown) > 0 {
		return errors.Join(err, cannotRevoke(unknown))
	}
	ended, err := grants.EndFor(ctx, what.person, db.Sessions().DeleteCtx, revoke)
	left := revocations.Wait()
	fmt.Fprintf(stdout, "Sessions ended: %d.\n", ended)
	return errors.Join(err, notRevoked(left, stdout))
}

// cannotRevoke is the error that there are providers at which the settings do not let the command revoke; nil if there are none.
func cannotRevoke(unknown []string) error {
	if len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("nothing is ended: there are sessions of providers that are not among the settings, so that their tokens cannot be "+
		"revoked: %s; give the server's settings, or --without-revoking to end the sessions and leave the tokens", strings.Join(unknown, ", "))
}

// notRevoked says whose tokens are not revoked, and is an error if there are any.
func notRevoked(left []auth.NotRevoked, stdout io.Writer) error {
	if len(left) == 0 {
		return nil
	}
	total, owed, why := 0, 0, make([]string, len(left))
	for i, some := range left {
		total += some.Grants
		owed += some.Owed
		why[i] = fmt.Sprintf("%d of provider %s: %s", some.Grants, some.Provider, printable(some.Reason.Error()))
	}
	fmt.Fprintf(stdout, "Not revoked: %d; %s.\n", total, strings.Join(why, "; "))
	if owed > 0 {
		fmt.Fprintf(stdout, "A server that runs tries again, for %d h: %d of them.\n", int(auth.OwedFor.Hours()), owed)
	}
	return errors.New("tokens of ended sessions are still good at their provider: end those people's sessions there as well")
}
