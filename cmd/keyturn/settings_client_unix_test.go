//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCredentialsAreReadFromRegularFilesOnly(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	wrongEntries(t, []wrongEntry{
		{"a pipe", ofWork + "client_key_file: " + pipe, "client_key_file", "is no regular file"},
		{"a device", ofWork + "client_key_file: /dev/zero", "client_key_file", "is no regular file"},
		{"a secret from a pipe", ofWork + "client_secret_file: " + pipe, "client_secret_file", "is no regular file"},
	})
}

// A pipe is a file that is being written, as by a shell's <(command). One that nobody writes to would be waited for, and no signal be heeded.
func TestAConfigFromAPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := parseSettings([]string{"--config=" + pipe}, nil, io.Discard); err == nil || !strings.Contains(err.Error(), "is a pipe that nobody writes to") {
		t.Errorf("that nobody writes to: %v", err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	written := make(chan error, 1)
	go func() {
		time.Sleep(50 * time.Millisecond) // it may come late
		_, err := in.WriteString("max_age: 17m\n")
		written <- errors.Join(err, in.Close())
	}()
	settings, _, _, err := parseSettings([]string{fmt.Sprint("--config=/dev/fd/", out.Fd())}, nil, io.Discard)
	if err = errors.Join(err, <-written); err != nil || settings.MaxAge != 17*time.Minute {
		t.Errorf("that somebody writes to: %v, %v", settings.MaxAge, err)
	}
}
