package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyturn/auth"
	"keyturn/auth/vault"
)

const (
	// censusEvery is how old a census may be: it reads whole indexes.
	censusEvery = time.Minute
	// scrapeTimeout bounds what one scrape asks of the database.
	scrapeTimeout = 2 * time.Second
	// backlogMost is how far the backlog of due renewals is counted.
	backlogMost = 1000
)

// state is metrics that are read when somebody asks: it counts nothing itself. It is safe for concurrent use.
type state struct {
	db        database
	rotator   *auth.Rotator
	events    *auth.Events
	providers auth.Providers
	onDemand  bool // nothing is renewed for being due
	now       func() time.Time
	log       *slog.Logger

	mu        sync.Mutex
	census    vault.Census
	countedAt time.Time
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("keyturn_"+name, help, labels, nil)
}

var (
	renewalsDesc   = desc("renewals_total", "Renewals that ended.", "provider", "trigger", "outcome")
	callsDesc      = desc("token_endpoint_calls_total", "Calls of a provider's token endpoint for a renewal.", "provider")
	replaysDesc    = desc("token_endpoint_replays_total", "Calls that presented a refresh token once more, because the outcome of the call before was unknown.", "provider")
	sharedDesc     = desc("renewals_shared_total", "Requests that waited for somebody else's renewal and got its answer.")
	leaseWaitsDesc = desc("lease_waits_total", "Renewals that met another process's lease.")
	waitingDesc    = desc("leases_waiting", "Renewals that wait for another process's lease now.")
	shelvedDesc    = desc("renewals_shelved_total", "Renewals that the database did not take at once.")
	unstoredDesc   = desc("renewals_unstored", "Renewals that the database has not taken yet; they are in memory and in the spool.")
	dueDesc        = desc("renewals_due", "Renewals that are due, with those under way, counted up to 1000.", "provider")
	overdueDesc    = desc("renewals_overdue_seconds", "How long the renewal has been due that waits the longest.", "provider")
	streamsDesc    = desc("event_streams", "Open event streams.")
	sessionsDesc   = desc("sessions", "Sessions in which somebody is signed in, as of at most a minute ago.")
	grantsDesc     = desc("grants", "Grants in the vault, as of at most a minute ago.")
	owedDesc       = desc("revocations_owed", "Revocations that are owed, as of at most a minute ago. Some wait for a person's other sessions.")
	poolDesc       = desc("database_connections", "Connections to the database.", "state")
	poolMostDesc   = desc("database_connections_max", "Most connections to the database.")
	poolWaitsDesc  = desc("database_connection_waits_total", "Uses of the database that had to wait for a connection.")
	poolWaitedDesc = desc("database_connection_wait_seconds_total", "Time that uses of the database waited for a connection.")
)

// Describe implements prometheus.Collector.
func (s *state) Describe(into chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		renewalsDesc, callsDesc, replaysDesc, sharedDesc, leaseWaitsDesc, waitingDesc, shelvedDesc, unstoredDesc, dueDesc, overdueDesc,
		streamsDesc, sessionsDesc, grantsDesc, owedDesc, poolDesc, poolMostDesc, poolWaitsDesc, poolWaitedDesc,
	} {
		into <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(into chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	total := func(d *prometheus.Desc, n float64, labels ...string) {
		into <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, n, labels...)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		into <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	counts := s.rotator.Counters.Snapshot()
	for kind, n := range s.renewals(counts) {
		total(renewalsDesc, float64(n), kind.Provider, string(kind.Trigger), string(kind.Outcome))
	}
	for _, provider := range s.providers.Names() {
		total(callsDesc, float64(counts.Calls[provider]), provider)
		total(replaysDesc, float64(counts.Replays[provider]), provider)
	}
	total(sharedDesc, float64(counts.Shared))
	total(leaseWaitsDesc, float64(counts.LeaseWaits))
	gauge(waitingDesc, float64(counts.Waiting))
	total(shelvedDesc, float64(counts.Shelved))
	gauge(unstoredDesc, float64(s.rotator.Unstored()))
	gauge(streamsDesc, float64(s.events.Open()))

	pool := s.db.Pool()
	gauge(poolDesc, float64(pool.InUse), "in_use")
	gauge(poolDesc, float64(pool.Idle), "idle")
	gauge(poolMostDesc, float64(pool.Most))
	total(poolWaitsDesc, float64(pool.Waits))
	total(poolWaitedDesc, pool.Waited.Seconds())

	// What the database does not say now is missing from the answer.
	if err := s.collectStored(ctx, gauge); err != nil {
		s.log.WarnContext(ctx, "metrics of the database are missing from a scrape", "error", err)
	}
}

// renewals are the counts of all kinds that there may be: an alert would miss the first of a kind that came into being with it.
func (s *state) renewals(counts auth.Counts) map[auth.RenewalKind]int64 {
	all := map[auth.RenewalKind]int64{}
	for _, provider := range s.providers.Names() {
		for _, trigger := range auth.Triggers {
			for _, outcome := range auth.Outcomes {
				all[auth.RenewalKind{Provider: provider, Trigger: trigger, Outcome: outcome}] = 0
			}
		}
	}
	maps.Copy(all, counts.Renewals)
	return all
}

func (s *state) collectStored(ctx context.Context, gauge func(d *prometheus.Desc, n float64, labels ...string)) error {
	census, err := s.counted(ctx)
	if err == nil {
		gauge(sessionsDesc, float64(census.Sessions))
		gauge(grantsDesc, float64(census.Grants))
		gauge(owedDesc, float64(census.Owed))
	}
	if s.onDemand {
		return err
	}
	for _, provider := range s.providers.Names() {
		now := s.now()
		due, unread := s.db.Overdue(ctx, provider, now, backlogMost)
		if unread != nil {
			return errors.Join(err, unread)
		}
		overdue := time.Duration(0)
		if len(due) > 0 {
			overdue = max(0, now.Sub(due[0].DueAt))
		}
		gauge(dueDesc, float64(len(due)), provider)
		gauge(overdueDesc, overdue.Seconds(), provider)
	}
	return err
}

// counted is the census, at most censusEvery old.
func (s *state) counted(ctx context.Context) (vault.Census, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.countedAt.IsZero() && s.now().Sub(s.countedAt) < censusEvery {
		return s.census, nil
	}
	census, err := s.db.Census(ctx)
	if err == nil {
		s.census, s.countedAt = census, s.now()
	}
	return census, err
}
