package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// configFile is the YAML file: its values by key, as they stand there. Every value is read through text, which replaces
// ${NAME}; that happens after YAML has been parsed, so that no variable can add a key.
type configFile struct {
	path      string
	nodes     map[string]*yaml.Node
	providers []*yaml.Node
	env       map[string]string
	used      map[string]bool // environment variables that the file refers to
}

// readConfigFile reads the file and refuses keys that are no settings. where names the setting that named the file.
func readConfigFile(path, where string, list []setting, env map[string]string) (*configFile, error) {
	content, err := readWithoutWaiting(path)
	if err != nil {
		return nil, value{text: path, where: where}.refused(unusableFile(err, ""))
	}
	f := &configFile{path: path, env: env, used: map[string]bool{}}
	var document, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", path, malformed(err))
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, fmt.Errorf("%s: %s", path, malformed(err))
		}
		return nil, fmt.Errorf("%s: holds several YAML documents; allowed: one", path)
	}
	if len(document.Content) == 0 || isNull(document.Content[0]) {
		return f, nil
	}

	known := []string{"providers"}
	for _, set := range list {
		known = append(known, set.key())
		if set.fromFile {
			known = append(known, set.key()+"_file")
		}
	}
	if f.nodes, err = f.mapping(document.Content[0], "", known); err != nil {
		return nil, err
	}
	if node, ok := f.nodes["config"]; ok {
		return nil, fmt.Errorf("%s: a file cannot name another; allowed: %s", f.at("config", node), where)
	}
	if node, ok := f.nodes["providers"]; ok && !isNull(node) {
		if node = dereferenced(node); node.Kind != yaml.SequenceNode {
			return nil, fmt.Errorf("%s: is not a list; allowed: one entry a provider, each beginning with a dash",
				f.at("providers", node))
		}
		f.providers = node.Content
	}
	return f, nil
}

// readWithoutWaiting reads a file, or a pipe that somebody writes to. One that nobody has at its other end is not waited for.
func readWithoutWaiting(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	if err == nil && len(content) == 0 && info.Mode()&os.ModeNamedPipe != 0 {
		err = errors.New("is a pipe that nobody writes to; allowed: the path of a readable file")
	}
	return content, err
}

// malformed is what the YAML parser found, without the words of the file that it may quote: they could be a secret's.
func malformed(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.Contains(text, "unknown anchor") {
		text = "an unknown anchor is referred to (a value that begins with * must be quoted)"
	}
	return "not valid YAML: " + text
}

// at names a place in the file for errors.
func (f *configFile) at(path string, node *yaml.Node) string {
	if path == "" {
		return fmt.Sprintf("line %d of %s", node.Line, f.path)
	}
	return fmt.Sprintf("%s (line %d of %s)", path, node.Line, f.path)
}

// find returns what the file says about a setting.
func (f *configFile) find(set setting) (value, error) {
	return f.entry(f.nodes, "", set.key(), set.field, set.fromFile)
}

// entry reads one key of a mapping, and if withFile its …_file companion. prefix is the path of the mapping.
func (f *configFile) entry(
	nodes map[string]*yaml.Node, prefix, key string, into field, withFile bool,
) (value, error) {
	v, err := f.value(nodes[key], prefix+key, into)
	if err != nil || !withFile {
		return v, err
	}
	path, err := f.value(nodes[key+"_file"], prefix+key+"_file", field{})
	if err != nil {
		return v, err
	}
	return orFromFile(v, path)
}

// value reads a scalar, or a list of scalars where the field takes one. A missing node is an empty value.
func (f *configFile) value(node *yaml.Node, path string, into field) (value, error) {
	v := value{where: path, secret: into.secret}
	if node == nil {
		return v, nil
	}
	v.where = f.at(path, node)
	if list := dereferenced(node); into.list && list.Kind == yaml.SequenceNode {
		v.items = []string{}
		for _, item := range list.Content {
			text, err := f.text(item, v.where)
			if err != nil {
				return v, err
			}
			if strings.TrimSpace(text) != "" {
				v.items = append(v.items, text)
			}
		}
		return v, nil
	}
	text, err := f.text(node, v.where)
	v.text = text
	return v, err
}

// reference is how a value names an environment variable.
var reference = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*\}`)

// text reads one scalar and replaces ${NAME} in it by the environment variable. A variable that is not set is an error:
// an empty secret would turn a confidential client into a public one. So is what only looks like a reference, and would be taken as it
// stands.
func (f *configFile) text(node *yaml.Node, where string) (string, error) {
	node = dereferenced(node)
	switch {
	case node.Kind != yaml.ScalarNode:
		return "", fmt.Errorf("%s: is a list or a mapping; allowed: a single value", where)
	case node.Style&yaml.TaggedStyle != 0, node.Anchor != "" && isNull(node):
		return "", fmt.Errorf("%s: begins with ! or & and means something else in YAML; allowed: the same in quotes", where)
	case isNull(node):
		return "", nil
	}
	if strings.Contains(reference.ReplaceAllLiteralString(node.Value, " "), "${") {
		return "", fmt.Errorf("%s: has ${ in it without a name and } behind that; allowed: ${NAME} for an environment variable, "+
			"which may hold any text", where)
	}
	var missing string
	text := reference.ReplaceAllStringFunc(node.Value, func(ref string) string {
		name := ref[len("${") : len(ref)-len("}")]
		f.used[name] = true
		if f.env[name] == "" && missing == "" {
			missing = name
		}
		return f.env[name]
	})
	if missing != "" {
		return "", fmt.Errorf("%s: ${%s}: this environment variable is not set or empty; allowed: one that is set",
			where, missing)
	}
	return text, nil
}

// mapping returns the values of a mapping by key, with underscores for dashes. prefix is its path, empty at the top.
func (f *configFile) mapping(node *yaml.Node, prefix string, known []string) (map[string]*yaml.Node, error) {
	node = dereferenced(node)
	if node.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: is not a mapping; allowed: lines of the form key: value",
			f.at(strings.TrimSuffix(prefix, "."), node))
	}
	nodes := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i]
		key := strings.ReplaceAll(name.Value, "-", "_")
		if name.Kind != yaml.ScalarNode || known != nil && !slices.Contains(known, key) {
			hint := didYouMean(key, known)
			if hint == "" {
				// config is known only to be refused in words of its own.
				allowed := slices.DeleteFunc(slices.Sorted(slices.Values(known)), func(key string) bool { return key == "config" })
				hint = "; allowed: " + strings.Join(allowed, ", ")
			}
			return nil, fmt.Errorf("%s: this key is not known%s", f.at(prefix+shorten(name.Value, maxShown), name), hint)
		}
		if known == nil { // names that are not ours keep their dashes
			key = name.Value
		}
		if _, twice := nodes[key]; twice {
			return nil, fmt.Errorf("%s: is there twice; allowed: once", f.at(prefix+key, name))
		}
		nodes[key] = node.Content[i+1]
	}
	return nodes, nil
}

// dereferenced follows a YAML alias to what it stands for.
func dereferenced(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }
