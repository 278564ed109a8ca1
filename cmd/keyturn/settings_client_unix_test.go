//go:build unix

package main

import (
	"path/filepath"
	"syscall"
	"testing"
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
