package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/postgres/pgtest"
)

// chain is something that can be renewed again and again.
type chain func(t *testing.T)

// providerPace makes of the test binary a provider that takes so long for each call; 0: as long as it takes to sign.
const providerPace = "KEYTURN_TEST_PROVIDER_PACE"

// farProvider is a provider in a process of its own, as providers are: a call that crosses from one process to another takes longer.
type farProvider struct {
	URL     string
	Refresh []string // of sign-ins that nobody else has
}

// startFarProvider starts one that lives as long as the test.
func startFarProvider(t *testing.T, pace time.Duration) (p farProvider) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBeProvider$")
	cmd.Env = append(os.Environ(), providerPace+"="+pace.String())
	if err := json.NewDecoder(runBeside(t, cmd)).Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

// The provider's side of startFarProvider.
func TestBeProvider(t *testing.T) {
	pace, err := time.ParseDuration(os.Getenv(providerPace))
	if err != nil {
		t.Skip(providerPace + " makes it a provider")
	}
	idp := scripted.New(t)
	if pace > 0 {
		inTurnEvery(pace)(idp)
	}
	said := farProvider{URL: idp.URL}
	for range chains {
		refresh, _ := idp.Mint()["refresh_token"].(string)
		said.Refresh = append(said.Refresh, refresh)
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		t.Fatal(err)
	}
	select {}
}

// directChain renews at the provider's own token endpoint, and keeps nothing.
func directChain(provider, refresh string, client *http.Client) chain {
	b, basic := &person{Client: client}, "Basic "+base64.StdEncoding.EncodeToString([]byte(scripted.ClientID+":"+url.QueryEscape(scripted.ClientSecret)))
	return func(t *testing.T) {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
		a := b.do(t, "POST", provider+"/token", form, "Authorization", basic)
		if refresh, _ = a.json(t)["refresh_token"].(string); refresh == "" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

// keyturnChain renews through Keyturn, which stores what comes.
func keyturnChain(t *testing.T, p *program, client *http.Client) chain {
	t.Helper()
	b := p.person().staying()
	b.signInScripted(t)
	cookie := b.cookie(t)
	b = &person{Client: client, base: p.base}
	return func(t *testing.T) {
		if a := b.do(t, "POST", "/api/renew-token", nil, "Cookie", cookie); a.status != http.StatusOK || a.json(t)["outcome"] != "rotated" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

const (
	chains      = 32
	oneChainFor = 600
)

// throughput renews all chains at once for a while, and says how many renewals there were a second.
func throughput(t *testing.T, all []chain) float64 {
	t.Helper()
	var done sync.WaitGroup
	var mu sync.Mutex
	began, sum := time.Now(), 0
	for _, renew := range all {
		done.Go(func() {
			n := 0
			for ; time.Since(began) < loadFor; n++ {
				renew(t)
			}
			mu.Lock()
			sum += n
			mu.Unlock()
		})
	}
	done.Wait()
	return float64(sum) / time.Since(began).Seconds()
}

// latencies is how long one renewal of each chain takes while nothing else goes on, as the median. The chains take turns, so that each
// finds the machine as awake as the others do.
func latencies(t *testing.T, one, other chain) (medians [2]time.Duration) {
	t.Helper()
	var took [2][]time.Duration
	for range oneChainFor {
		for i, renew := range []chain{one, other} {
			began := time.Now()
			renew(t)
			took[i] = append(took[i], time.Since(began))
		}
	}
	for i := range took {
		slices.Sort(took[i])
		medians[i] = took[i][len(took[i])/2]
	}
	return medians
}

// inTurnEvery makes a provider that answers one call after the other, each in the given time, as one process of Node's
// oidc-provider does in 3.3 ms.
func inTurnEvery(each time.Duration) func(*scripted.Provider) {
	var mu sync.Mutex
	return func(idp *scripted.Provider) {
		idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			mu.Lock()
			defer mu.Unlock()
			for began := time.Now(); time.Since(began) < each; {
				time.Sleep(each / 20)
			}
			return false
		}
	}
}

// Renewals beside the provider's own token endpoint, which signs an id token (ES256) for each: one after the other for one session, and
// as many as go for many.
func TestMeasureRenewals(t *testing.T) {
	measuring(t, "bench")
	figures := newTable("renewals", "one takes", "more than the provider", "a second", "of the provider")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * chains}}
	for _, c := range []struct {
		engine, what string
		pace         time.Duration
	}{
		{"SQLite", "as quick as Go signs", 0},
		{"SQLite", "3.3 ms a call, one at a time", 3300 * time.Microsecond},
		{"PostgreSQL", "as quick as Go signs", 0},
		{"PostgreSQL", "3.3 ms a call, one at a time", 3300 * time.Microsecond},
	} {
		t.Run(c.engine+", "+c.what, func(t *testing.T) {
			args := []string{"--log-level=warn"}
			if c.engine == "PostgreSQL" {
				args = append(args, "KEYTURN_DATABASE="+pgtest.Database(t))
			}
			idp := startFarProvider(t, c.pace)
			p := startProgram(t, append(args, "KEYTURN_ISSUER="+idp.URL, "KEYTURN_CLIENT_ID="+scripted.ClientID,
				"KEYTURN_CLIENT_SECRET="+scripted.ClientSecret, fmt.Sprintf("--renew-concurrency=%d", 2*chains))...)
			var direct, through []chain
			for _, refresh := range idp.Refresh {
				direct, through = append(direct, directChain(idp.URL, refresh, client)), append(through, keyturnChain(t, p, client))
			}
			one := latencies(t, direct[0], through[0])
			var rate [2]float64
			for range 2 {
				for i, side := range [][]chain{direct, through} {
					rate[i] = max(rate[i], throughput(t, side))
				}
			}
			figures.row("the provider's token endpoint, "+c.what, milliseconds(one[0]), "", fmt.Sprintf("%.0f", rate[0]), "100 %")
			figures.row("Keyturn, "+c.engine, milliseconds(one[1]), milliseconds(one[1]-one[0]), fmt.Sprintf("%.0f", rate[1]),
				fmt.Sprintf("%.0f %%", 100*rate[1]/rate[0]))
		})
	}
	_ = figures.Flush()
}
