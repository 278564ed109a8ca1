package main

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// shownDefault is what the help says about the default.
func (s setting) shownDefault() string {
	if s.preset != "" {
		return s.preset
	}
	return s.absent
}

// writeHelp prints the commands and all settings, at most 100 columns wide.
func writeHelp(w io.Writer, app *kong.Application) error {
	var b strings.Builder
	b.WriteString("Usage: keyturn [command] [settings]\n\n" +
		"Keyturn signs people in with OAuth 2.0 and OpenID Connect providers and keeps their tokens fresh.\n\n" +
		"Commands\n")
	for _, leaf := range app.Leaves(true) {
		writeRow(&b, []int{20, 76}, leaf.Path(), leaf.Help)
	}
	b.WriteString("\nA setting is a flag, an environment variable, or a key of the YAML file, in that order of\n" +
		"precedence. An empty value counts as not set. Durations carry a unit: 90s, 30m, 24h.\n")
	group := ""
	var s Settings
	for _, set := range s.list() {
		if set.group != group {
			group = set.group
			b.WriteString("\n" + group + "\n")
		}
		flag := "--" + set.name
		if set.noFlag {
			flag = "(no flag)"
		}
		writeRow(&b, []int{20, 26, 16, 30}, flag, strings.Join(set.variables(), " "), set.shownDefault(), set.meaning)
	}
	b.WriteString("\nOther flags\n")
	writeRow(&b, []int{20, 76}, "--help, -h", "Show this.")
	writeRow(&b, []int{20, 76}, "--version", "Print the version.")
	_, err := io.WriteString(w, b.String())
	return err
}

// writeRow writes one row of a table whose columns have the given widths in characters; cells wrap.
func writeRow(b *strings.Builder, widths []int, cells ...string) {
	columns := make([][]string, len(cells))
	height := 0
	for i, cell := range cells {
		columns[i] = wrapped(cell, widths[i])
		height = max(height, len(columns[i]))
	}
	for y := range height {
		line := ""
		for i, column := range columns {
			part := ""
			if y < len(column) {
				part = column[y]
			}
			line += " " + part + strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(part)))
		}
		b.WriteString(" " + strings.TrimRight(line, " ") + "\n")
	}
}

// wrapped breaks text into lines of at most width characters, at spaces only.
func wrapped(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
