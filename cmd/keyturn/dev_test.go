package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"keyturn/auth/authtest"
)

func TestAFullDiskLeavesNoHalfAClientSecret(t *testing.T) {
	t.Parallel()
	dir := authtest.SmallDisk(t, "64k")
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if _, err := devClientSecret(dir); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	secret, err := devClientSecret(dir)
	if again, _ := devClientSecret(dir); err != nil || secret == "" || again != secret {
		t.Errorf("with room again: %v", err)
	}
}
