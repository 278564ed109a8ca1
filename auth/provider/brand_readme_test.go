package provider

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var write = flag.Bool("write", false, "write the table of brands into the README")

// readmeTable is the table of brands as the README has it.
func readmeTable() string {
	var b strings.Builder
	b.WriteString("| type | | own settings | renews | rotates | revokes | ends session | remark |\n" +
		strings.Repeat("|---", 8) + "|\n")
	all := brands()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		facts := e.facts()
		var own []string
		for _, setting := range e.needs {
			own = append(own, "`"+setting+"`")
		}
		for _, setting := range e.takes {
			own = append(own, "(`"+setting+"`)")
		}
		openID := ""
		if e.issuer != nil {
			openID = ", OpenID"
		}
		fmt.Fprintf(&b, "| `%s` | %s%s | %s | %s | %s | %s | %s | %s |\n", name, e.label, openID, strings.Join(own, ", "),
			facts.renews, facts.rotates, facts.revokes, facts.ends, e.remark)
	}
	return b.String()
}

// The README says of each brand what the table says. To bring it up to date: go test ./auth/provider -run README -write
func TestREADMEListsTheBrands(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../README.md", "<!-- brands -->\n", "<!-- /brands -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), begin)
	listed, after, found := strings.Cut(rest, end)
	if !found {
		t.Fatal("the README has no place for the brands")
	}
	if *write {
		if err := os.WriteFile(file, []byte(before+begin+readmeTable()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if listed != readmeTable() {
		t.Error("the README's table of brands is of another time: go test ./auth/provider -run README -write")
	}
}
