package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"keyturn/auth"
)

// command is what the program was asked to do.
type command struct {
	name   string
	json   bool        // answer for programs
	person auth.Person // whose sessions

	withoutRevoking bool
	exclude         []string // parts that /readyz is not to look at
}

// The names of commands. Without one the program serves; parseSettings answers version itself.
const (
	commandServe        = "serve"
	commandCheck        = "check"
	commandKeysCreate   = "keys create"
	commandKeysList     = "keys list"
	commandKeysRotate   = "keys rotate"
	commandKeysReseal   = "keys reseal"
	commandKeysRetire   = "keys retire"
	commandSessionsList = "sessions list"
	commandSessionsEnd  = "sessions end"
	commandReady        = "ready"
	commandVersion      = "version"
)

// whose names a person by provider and subject, or everybody.
type whose struct {
	Provider string `arg:"" optional:""`
	Subject  string `arg:"" optional:""`
	All      bool   `name:"all"`
}

// grammar is the commands as kong wants them; the flags are added to it from the list of settings.
type grammar struct {
	Serve struct{} `cmd:"" default:"1" help:"Run the server (the default)."`
	Check struct {
		JSON bool `name:"json"`
	} `cmd:"" help:"Ask each provider what it can do, and say what will not work; --json: for programs."`
	Keys struct {
		Create struct{} `cmd:"" help:"Make a keyset before the server does, for copies of it."`
		List   struct{} `cmd:"" help:"List the keys of the vault's keyset."`
		Rotate struct{} `cmd:"" help:"Add a key and seal with it from now on; the old ones still open."`
		Reseal struct{} `cmd:"" help:"Seal every grant with the newest key."`
		Retire struct{} `cmd:"" help:"Remove the keys that seal nothing any more."`
	} `cmd:"" help:"Look after the keyset."`
	Sessions struct {
		List whose `cmd:"" help:"List the sessions of one person, by PROVIDER and SUBJECT, or --all."`
		End  struct {
			whose
			WithoutRevoking bool `name:"without-revoking"`
		} `cmd:"" help:"End the sessions of one person, by PROVIDER and SUBJECT, or --all; revokes their tokens, unless --without-revoking."`
	} `cmd:"" help:"Look after people's sessions."`
	Ready struct {
		Exclude []string `name:"exclude" enum:"database,migrations,keyset,spool"` // what readiness looks at
	} `cmd:"" help:"Ask the server that runs here with these settings whether it is ready; --exclude=database,migrations: whatever becomes of those parts."`
	Version struct {
		JSON bool `name:"json"`
	} `cmd:"" help:"Print the version and what it was built from; --json: for programs."`

	ShowVersion versionFlag `name:"version"`
}

// versionFlag prints the version before anything else is looked at, as kong's own --help does.
type versionFlag bool

// BeforeReset is called by kong as soon as the command line has been read.
func (versionFlag) BeforeReset(k *kong.Kong) error {
	if err := writeVersion(k.Stdout, false); err != nil {
		return err
	}
	k.Exit(0)
	return nil
}

// parseCommandLine returns the flags that were given, by name and still as text: what they mean is not kong's business,
// because the same text may come from the environment or the file.
func parseCommandLine(args []string, stdout io.Writer) (flags map[string]string, what command, done bool, err error) {
	flags = map[string]string{}
	var asked grammar
	parser, err := kong.New(&asked,
		kong.Name("keyturn"),
		kong.Writers(stdout, io.Discard),
		kong.Exit(func(int) { done = true }),
		kong.Help(func(_ kong.HelpOptions, ctx *kong.Context) error { return writeHelp(ctx.Stdout, ctx.Model) }),
		kong.PostBuild(func(k *kong.Kong) error {
			addFlags(k, flags)
			return nil
		}),
	)
	if err != nil {
		return nil, command{}, false, fmt.Errorf("command line: %w", err)
	}
	if slices.Equal(args, []string{"help"}) { // as other programs have it
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(args)
	var own *flagError
	switch {
	case done: // whatever kong found fault with after it had answered
		return nil, command{}, true, nil
	case errors.As(err, &own):
		return nil, command{}, false, own
	case err != nil:
		if meant := strayToggle(args, err.Error()); meant != nil {
			return nil, command{}, false, meant
		}
		return nil, command{}, false, errors.New(usageError(err.Error()))
	}
	what.name = ctx.Selected().Path()
	switch what.name {
	case commandCheck:
		what.json = asked.Check.JSON
	case commandSessionsList:
		err = what.about(asked.Sessions.List)
	case commandSessionsEnd:
		err = what.about(asked.Sessions.End.whose)
		what.withoutRevoking = asked.Sessions.End.WithoutRevoking
	case commandReady:
		what.exclude = asked.Ready.Exclude
	case commandVersion:
		return nil, what, true, writeVersion(stdout, asked.Version.JSON)
	}
	return flags, what, false, err
}

// about makes it a command about one person, or about everybody.
func (c *command) about(who whose) error {
	c.person = auth.Person{Provider: who.Provider, Subject: who.Subject}
	if named := who.Provider != "" && who.Subject != ""; named == who.All || who.All && who != (whose{All: true}) {
		return errors.New(usageError(c.name + ": whose? PROVIDER SUBJECT, or --all"))
	}
	return nil
}

// addFlags gives kong a flag for each setting, and --no-dev-provider. Their texts go into the map.
func addFlags(k *kong.Kong, into map[string]string) {
	add := func(m *flagMapper, name string, hidden bool) {
		v := &kong.Value{
			Name: name, Mapper: m, Tag: &kong.Tag{}, Target: reflect.New(reflect.TypeFor[string]()).Elem(),
			DefaultValue: reflect.ValueOf(""),
		}
		v.Flag = &kong.Flag{Value: v, Hidden: hidden}
		k.Model.Flags = append(k.Model.Flags, v.Flag)
	}
	var s Settings
	for _, set := range s.list() {
		if set.noFlag {
			continue
		}
		toggled := set.field.toggle
		add(&flagMapper{set: set, into: into}, set.name, false)
		if toggled {
			add(&flagMapper{set: set, into: into, negate: true}, "no-"+set.name, true)
		}
	}
}

// flagMapper keeps the text of one flag. Of several occurrences the last counts.
type flagMapper struct {
	set    setting
	into   map[string]string
	negate bool
}

// hasToggle says whether a toggle's value follows: behind the equals sign, or as a word that can be nothing else.
func hasToggle(next kong.Token) bool {
	_, err := parseToggle(next.String())
	return next.Type == kong.FlagValueToken || next.IsValue() && err == nil
}

// isNegative says that a word is a number below zero, to be refused as a value: no flag begins like that.
func isNegative(word string) bool {
	return len(word) > 1 && word[0] == '-' && strings.IndexByte("0123456789.", word[1]) >= 0
}

// Decode implements kong.Mapper.
func (m *flagMapper) Decode(ctx *kong.DecodeContext, _ reflect.Value) error {
	if m.set.field.toggle && !hasToggle(ctx.Scan.Peek()) {
		m.into[m.set.name] = string(toggleOn.negatedIf(m.negate))
		return nil
	}
	if next := ctx.Scan.Peek(); !next.IsValue() && !isNegative(next.String()) {
		return &flagError{m.set.label() + ": its value is missing; write --" + m.set.name + "=VALUE"}
	}
	text := ctx.Scan.Pop().String()
	if m.negate {
		t, err := parseToggle(text)
		if err != nil {
			return &flagError{"--no-" + m.set.name + ": " + shown(text) + " " + err.Error()}
		}
		text = string(t.negatedIf(true))
	}
	m.into[m.set.name] = text
	return nil
}

// IsBool implements kong.BoolMapper.
func (m *flagMapper) IsBool() bool { return m.set.field.toggle }

// flagError is an error of our own wording that kong hands through.
type flagError struct{ text string }

func (e *flagError) Error() string { return e.text }

// strayToggle is the error of a word that no command takes, and that stands where a toggle's value does; nil if kong complains of
// something else.
func strayToggle(args []string, complaint string) error {
	word, unexpected := strings.CutPrefix(complaint, "unexpected argument ")
	_, err := parseToggle(word)
	if !unexpected || err == nil {
		return nil
	}
	for _, set := range new(Settings).list() {
		if at := slices.Index(args, "--"+set.name) + 1; set.field.toggle && at > 0 && slices.Index(args, word) == at {
			return value{text: word, where: set.label()}.refused(err)
		}
	}
	return nil
}

// usageError makes kong's error ours: it names the thing that the reader typed, and no secret in it.
func usageError(text string) string {
	if rest, ok := strings.CutPrefix(text, "unexpected argument "); ok {
		text = "unknown command " + rest
	}
	if strings.HasPrefix(text, "unknown flag --client-secret") {
		return "unknown flag --client-secret: a secret is not given on the command line; " +
			"allowed: KEYTURN_CLIENT_SECRET, KEYTURN_CLIENT_SECRET_FILE or client_secret in the file"
	}
	return shorten(withoutCredentials(text), 2*maxShown) + " (keyturn --help shows what is allowed)"
}
