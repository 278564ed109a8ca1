package main

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"keyturn/handlers"
)

// metrics are what operators see of Keyturn. Labels take few values: names of the settings, patterns and words of the program's own.
type metrics struct {
	registry       *prometheus.Registry
	calls          *prometheus.HistogramVec // provider
	signIns        *prometheus.CounterVec   // provider, outcome
	refused        *prometheus.CounterVec   // limit
	requests       *prometheus.CounterVec   // method, route, code
	requestSeconds *prometheus.HistogramVec // method, route

	mu       sync.RWMutex
	answered map[answerKind]answerSeries
}

// answerKind is what is told of a request.
type answerKind struct {
	method, route string
	status        int
}

// answerSeries are the series that such answers count in: to find them by their labels takes longer than to count.
type answerSeries struct {
	count   prometheus.Counter
	seconds prometheus.Observer // nil: not observed
}

// callBuckets reach from a provider next door to the longest time-out that people are likely to set, in seconds.
var callBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// newMetrics returns metrics of sign-ins at the providers. What an alert counts is there from the beginning, at 0: it would miss the first
// one otherwise.
func newMetrics(providers []string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(), answered: map[answerKind]answerSeries{},
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyturn_token_endpoint_duration_seconds", Help: "How long calls of a provider's token endpoint for a renewal took.",
			Buckets: callBuckets,
		}, []string{"provider"}),
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyturn_sign_ins_total", Help: "Sign-ins by how they ended: done, cancelled by the person, or failed.",
		}, []string{"provider", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyturn_limited_requests_total", Help: "Requests that were refused by a limit.",
		}, []string{"limit"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyturn_http_requests_total", Help: "Requests that were answered, by route pattern.",
		}, []string{"method", "route", "code"}),
		requestSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyturn_http_request_duration_seconds", Help: "How long requests took, event streams aside.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route"}),
	}
	for _, limit := range handlers.LimitNames {
		m.refused.WithLabelValues(limit)
	}
	for _, provider := range providers {
		for _, outcome := range handlers.SignInOutcomes {
			m.signIns.WithLabelValues(provider, outcome)
		}
	}
	m.registry.MustRegister(m.calls, m.signIns, m.refused, m.requests, m.requestSeconds, buildInfo(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func buildInfo() prometheus.Collector {
	built := thisRelease()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "keyturn_build_info", Help: "Always 1; its labels say what this program was built from.",
		ConstLabels: prometheus.Labels{"version": built.Version, "revision": built.Revision, "go_version": built.Go},
	})
	info.Set(1)
	return info
}

// handler answers scrapes.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2})
}

// called is told of each call of a token endpoint.
func (m *metrics) called(provider string, took time.Duration) {
	m.calls.WithLabelValues(provider).Observe(took.Seconds())
}

// Request implements handlers.Meter.
func (m *metrics) Request(method, route string, status int, took time.Duration) {
	kind := answerKind{method, route, status}
	m.mu.RLock()
	series, known := m.answered[kind]
	m.mu.RUnlock()
	if !known {
		series = m.series(kind)
	}
	series.count.Inc()
	if series.seconds != nil {
		series.seconds.Observe(took.Seconds())
	}
}

// series finds the series of such answers, for good.
func (m *metrics) series(kind answerKind) (series answerSeries) {
	route := kind.route
	if route == "" {
		route = "none"
	}
	series.count = m.requests.WithLabelValues(kind.method, route, strconv.Itoa(kind.status))
	if route != handlers.EventsRoute {
		series.seconds = m.requestSeconds.WithLabelValues(kind.method, route)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answered[kind] = series
	return series
}

// SignIn implements handlers.Meter.
func (m *metrics) SignIn(provider, outcome string) {
	m.signIns.WithLabelValues(provider, outcome).Inc()
}

// Refused implements handlers.Meter.
func (m *metrics) Refused(limit string) { m.refused.WithLabelValues(limit).Inc() }
