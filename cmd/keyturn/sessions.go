package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"keyturn/auth"
)

// sessionsPage is how many sessions of everybody are read at a time.
const sessionsPage = 1000

// manageSessions runs the sessions commands. They are safe while servers run on the same database, which notice by themselves what
// has ended: a request in flight does not bring it back.
func manageSessions(ctx context.Context, settings Settings, what command, log *slog.Logger, stdout io.Writer) (err error) {
	db, _, err := openVaultFor(ctx, settings, log, stdout)
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
	write := func(list []*auth.Grant) {
		for _, g := range list {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", g.Identity.Provider, printable(g.Identity.Subject),
				g.CreatedAt.Format(time.RFC3339), g.SeenAt.Format(time.RFC3339), g.Generation, printable(g.IP), printable(g.UserAgent))
		}
	}
	if !what.everyone {
		list, err := db.Person(ctx, what.provider, what.subject)
		write(list)
		return errors.Join(err, table.Flush())
	}
	for after := ""; ; {
		list, err := db.Everyone(ctx, after, sessionsPage)
		write(list)
		if err = errors.Join(err, table.Flush()); err != nil || len(list) == 0 {
			return err
		}
		after = list[len(list)-1].ID
	}
}

// endSessions ends sessions and their grants, and revokes the tokens as a sign-out does.
func endSessions(ctx context.Context, settings Settings, db database, what command, log *slog.Logger, stdout io.Writer) error {
	base := settings.publicURL(nil)
	client, err := devClient(settings, base)
	if err != nil {
		return err
	}
	providers, err := newProviders(settings, client, base, log)
	if err != nil {
		return err
	}
	grants := auth.NewGrants(db, providers, auth.DefaultCallbacks(), &auth.Events{}, time.Now, log)
	var ended int
	if what.everyone {
		ended, err = grants.EndEveryone(ctx, db.Sessions().DeleteCtx, func() { _ = grants.Wait(ctx) })
	} else {
		ended, err = grants.EndSessions(ctx, auth.ProviderSession{Provider: what.provider, Subject: what.subject}, db.Sessions().DeleteCtx)
	}
	fmt.Fprintf(stdout, "Sessions ended: %d.\n", ended)
	return errors.Join(err, grants.Wait(ctx))
}
