package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestEveryTestThatSECURITYNamesExists(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	var tests strings.Builder
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		tests.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(shipped(t)["SECURITY.md"], -1)
	if len(named) < 100 {
		t.Fatalf("SECURITY.md names only %d tests", len(named))
	}
	for _, name := range named {
		if !strings.Contains(tests.String(), "\nfunc "+name[1]+"(") {
			t.Errorf("SECURITY.md names %s, which does not exist", name[1])
		}
	}
}

// The numbers are those of ASVS 5.0's sections.
func TestSECURITYAnswersEveryRequirementOfItsChapters(t *testing.T) {
	t.Parallel()
	text := shipped(t)["SECURITY.md"]
	for section, requirements := range map[string]int{
		"3.1": 1, "3.2": 2, "3.3": 5, "3.4": 7, "3.5": 7, "3.6": 1, "3.7": 5,
		"7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "7.6": 2,
		"10.1": 2, "10.2": 3, "10.5": 5,
	} {
		for i := range requirements {
			if row := fmt.Sprintf("\n| %s.%d | ", section, i+1); strings.Count(text, row) != 1 {
				t.Errorf("SECURITY.md has %d rows for %s.%d", strings.Count(text, row), section, i+1)
			}
		}
	}
}
