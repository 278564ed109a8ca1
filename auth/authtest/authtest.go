// Package authtest is what the tests of more than one package run with.
package authtest

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Run runs a package's tests, atOnce of them at once. That may be more than there are processors: most of their time they
// wait, unless the race detector makes everything slow.
func Run(m *testing.M, atOnce int) (code int) {
	flag.Parse()
	if Race {
		atOnce = min(atOnce, 3)
	}
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		panic(err)
	}
	return m.Run()
}

// Require skips a test whose part is missing on this machine, and fails it when KEYTURN_TEST_REQUIRE names the part.
func Require(t testing.TB, part string, present bool) {
	t.Helper()
	if present {
		return
	}
	if strings.Contains(os.Getenv("KEYTURN_TEST_REQUIRE"), part) {
		t.Fatalf("%s is required by KEYTURN_TEST_REQUIRE and was not found", part)
	}
	t.Skipf("%s was not found on this machine", part)
}

// SmallDisk is a folder on a file system of its own, with as much room as is asked for ("64k").
func SmallDisk(t testing.TB, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if output, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no small file system on this machine: %v: %s", err, output)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return dir
}

// Soak is the size of a test that could go on for ever: small unless KEYTURN_TEST_SOAK says short or long.
func Soak(small, short, long int) int {
	switch os.Getenv("KEYTURN_TEST_SOAK") {
	case "short":
		return short
	case "long":
		return long
	default:
		return small
	}
}

// Buffer is a buffer that a test reads while others write. It is safe for concurrent use; the zero value is ready.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Unfilled lists the fields of a struct, and of those in it, that have no value.
func Unfilled(v any) (names []string) {
	value := reflect.ValueOf(v)
	for field, within := range value.Fields() {
		switch _, leaf := within.Interface().(time.Time); {
		case within.IsZero():
			names = append(names, field.Name)
		case within.Kind() == reflect.Struct && !leaf:
			for _, name := range Unfilled(within.Interface()) {
				names = append(names, field.Name+"."+name)
			}
		}
	}
	return names
}
