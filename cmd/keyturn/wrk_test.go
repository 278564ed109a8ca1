package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyturn/auth/authtest"
)

// loaded is how a server did under load. Of several runs the rates are the mean and the percentiles the least: what else the machine
// does makes them longer, never shorter.
type loaded struct {
	rate     float64 // requests a second
	p50, p99 time.Duration
	memory   int64 // bytes resident at most
}

const (
	loadConnections = 32
	loadFor         = 3 * time.Second
)

// wrk loads a page for a while with the cookies of several people, one after the other.
func wrk(t *testing.T, address string, cookies []string) loaded {
	t.Helper()
	path, err := exec.LookPath("wrk")
	authtest.Require(t, "wrk", err == nil)
	args := []string{"-t1", "-c" + strconv.Itoa(loadConnections), "-d" + loadFor.String(), "--latency"}
	if len(cookies) == 1 {
		args = append(args, "-H", "Cookie: "+cookies[0])
	} else {
		args = append(args, "-s", cookieScript(t, cookies))
	}
	output, err := exec.Command(path, append(args, address)...).CombinedOutput()
	if err != nil || strings.Contains(string(output), "Non-2xx") {
		t.Fatalf("wrk %s: %v\n%s", address, err, output)
	}
	var l loaded
	l.rate, err = strconv.ParseFloat(wrkFigure(t, output, `Requests/sec:\s+(\S+)`), 64)
	if err == nil {
		l.p50, err = time.ParseDuration(wrkFigure(t, output, `\n\s+50%\s+(\S+)`))
	}
	if err == nil {
		l.p99, err = time.ParseDuration(wrkFigure(t, output, `\n\s+99%\s+(\S+)`))
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wrkFigure(t *testing.T, output []byte, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindSubmatch(output)
	if found == nil {
		t.Fatalf("wrk said something else:\n%s", output)
	}
	return string(found[1])
}

// cookieScript is a script for wrk that takes one cookie after the other.
func cookieScript(t *testing.T, cookies []string) string {
	t.Helper()
	var script strings.Builder
	script.WriteString("local requests, n = {}, 0\nfunction init()\n")
	for i, cookie := range cookies {
		fmt.Fprintf(&script, "  requests[%d] = wrk.format(nil, nil, {Cookie = %q})\n", i+1, cookie)
	}
	script.WriteString("end\nfunction request()\n  n = n % #requests + 1\n  return requests[n]\nend\n")
	path := t.TempDir() + "/rotation.lua"
	if err := os.WriteFile(path, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// resident is the most memory that a process has had, in bytes; 0 where the system does not tell.
func resident(pid int) int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		return 0
	}
	kilobytes, _ := strconv.ParseInt(string(found[1]), 10, 64)
	return kilobytes << 10
}

// inTurn loads several servers in turn, more than once, and returns how each did.
func inTurn(t *testing.T, servers ...func() loaded) []loaded {
	t.Helper()
	const rounds = 2
	all := make([]loaded, len(servers))
	for range rounds {
		for i, server := range servers {
			one, sum := server(), &all[i]
			sum.rate += one.rate / rounds
			if sum.p50 == 0 || one.p50 < sum.p50 {
				sum.p50 = one.p50
			}
			if sum.p99 == 0 || one.p99 < sum.p99 {
				sum.p99 = one.p99
			}
			sum.memory = max(sum.memory, one.memory)
		}
	}
	return all
}
