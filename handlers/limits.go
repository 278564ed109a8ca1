package handlers

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"
)

// Limit is how often something may be done: Count times at once, and as many again for each Per that goes by. The zero Limit
// limits nothing.
type Limit struct {
	Count int
	Per   time.Duration
}

// Limits bound what one session may ask for, and ten times as much what may come from one address, behind which there may be an
// office. Requests from the machine itself are bounded by session only: there may be a proxy that nobody has declared.
type Limits struct {
	SignIn Limit // what begins or ends a sign-in; logout tokens that are refused, apart from those
	Renew  Limit // renewals that are asked for
	Reveal Limit // tokens that are shown, and what is asked of a provider about them
}

// LimitNames are what Meter.Refused calls the limits.
var LimitNames = []string{limitSignIn, limitRenew, limitReveal, limitStreams}

const (
	limitSignIn  = "sign_in"
	limitRenew   = "renew"
	limitReveal  = "reveal"
	limitStreams = "streams"
)

const (
	// perAddress is how much more than a session an address may ask for.
	perAddress = 10
	// remembered is how many sessions and addresses a limiter knows. Those that it forgets asked the longest ago: most would be
	// allowed everything again.
	remembered = 1 << 14
)

// limiter holds a Limit for each session and address. It is safe for concurrent use.
type limiter struct {
	limit   Limit
	buckets *lru.Cache[string, *rate.Limiter]
}

func newLimiter(limit Limit) *limiter {
	buckets, err := lru.New[string, *rate.Limiter](remembered)
	if err != nil {
		panic(err) // a size that is not positive
	}
	return &limiter{limit: limit, buckets: buckets}
}

// take takes one of times as much as the limit allows to whoever the key names. If nothing is left it returns how long it takes
// until there is.
func (l *limiter) take(key string, times int, now time.Time) (wait time.Duration) {
	bucket, ok := l.buckets.Get(key)
	if !ok {
		most := l.limit.Count * times
		bucket = rate.NewLimiter(rate.Limit(float64(most)/l.limit.Per.Seconds()), most)
		if earlier, found, _ := l.buckets.PeekOrAdd(key, bucket); found {
			bucket = earlier
		}
	}
	taken := bucket.ReserveN(now, 1)
	if wait = taken.DelayFrom(now); wait > 0 {
		taken.CancelAt(now)
	}
	return wait
}

// left is how long it takes until more than spoken of times as much as the limit allows is left to whoever the key names. It takes
// nothing, and is not positive if there is.
func (l *limiter) left(key string, times, spoken int, now time.Time) (wait time.Duration) {
	most := float64(l.limit.Count * times)
	left := most
	if bucket, ok := l.buckets.Get(key); ok {
		left = bucket.TokensAt(now)
	}
	return time.Duration((1 + float64(spoken) - left) / most * float64(l.limit.Per))
}

// limited refuses requests beyond the limit. name is what the meter calls it.
func (a *app) limited(name string, limit Limit) echo.MiddlewareFunc {
	if limit.Count == 0 {
		return func(next echo.HandlerFunc) echo.HandlerFunc { return next }
	}
	l := newLimiter(limit)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			now, wait := time.Now(), time.Duration(0)
			if person, ok := a.Sessions.SignedIn(c.Request().Context()); ok {
				wait = l.take("session "+person.GrantID, 1, now)
			}
			if address, ok := a.limitedAddress(c); ok && wait == 0 {
				wait = l.take("address "+address, perAddress, now)
			}
			if wait > 0 {
				a.Meter.Refused(name)
				return tooMany(c, wait, "You asked for this too often.")
			}
			return next(c)
		}
	}
}

// limitedInVain refuses requests of an address once too many of its requests were in vain, which the next handler says. Those that were
// not count for nothing: a provider sends all of its logout tokens from one address. The bound is one beside limited's.
func (a *app) limitedInVain(name string, limit Limit, next func(c echo.Context) (inVain bool, err error)) echo.HandlerFunc {
	tries := &tries{limiter: newLimiter(limit), open: map[string]int{}}
	return func(c echo.Context) error {
		address, known := a.limitedAddress(c)
		if !known || limit.Count == 0 {
			_, err := next(c)
			return err
		}
		if wait := tries.begin(address); wait > 0 {
			a.Meter.Refused(name)
			return tooMany(c, wait, "Too much that came from here was refused.")
		}
		inVain := true // as a panic is
		defer func() { tries.end(address, inVain) }()
		var err error
		inVain, err = next(c)
		return err
	}
}

// tries bounds what an address tries in vain. Any that is open yet may turn out to be. It is safe for concurrent use.
type tries struct {
	limiter *limiter
	mu      sync.Mutex
	open    map[string]int // by address
}

// begin opens a try of the address, unless it has to wait before that.
func (t *tries) begin(address string) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait = t.limiter.left(address, perAddress, t.open[address], time.Now()); wait <= 0 {
		t.open[address]++
	}
	return wait
}

func (t *tries) end(address string, inVain bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[address]--; t.open[address] == 0 {
		delete(t.open, address)
	}
	if inVain {
		t.limiter.take(address, perAddress, time.Now())
	}
}

const codeTooMany = "too_many_requests"

// tooMany is the problem of a request beyond a bound, which may be tried again after wait.
func tooMany(c echo.Context, wait time.Duration, title string) *httpProblem {
	seconds := retryAfter(c, wait)
	return problem(http.StatusTooManyRequests, codeTooMany, title, fmt.Sprintf("Try again in %d s.", seconds))
}

// limitedAddress is what a request's address is limited as. Those that a trusted proxy says nothing useful about share one bound.
func (a *app) limitedAddress(c echo.Context) (address string, ok bool) {
	address, ok = networkOf(c.RealIP())
	if !ok && c.Request().Header.Get(echo.HeaderXForwardedFor) != "" {
		if a.trusts(c.Request()) {
			return "unknown", true
		}
		a.undeclared.Do(func() {
			a.Log.WarnContext(c.Request().Context(), "a proxy on this machine forwards requests, and --trusted-proxies (KEYTURN_TRUSTED_PROXIES) "+
				"does not name it: they are limited for each session only, not for each address")
		})
	}
	return address, ok
}

// networkOf is what stands for an address: itself, or its network, of which a home has one (RFC 6177). ok is false for the machine
// itself, and where there is no address.
func networkOf(text string) (address string, ok bool) {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return "", false
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String(), !ip.IsLoopback()
	}
	network, err := ip.Prefix(64)
	return network.String(), err == nil && !ip.IsLoopback()
}
