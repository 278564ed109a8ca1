package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"keyturn/auth/keyfile"
)

// sources is where settings come from, the strongest first.
type sources struct {
	flags map[string]string // by flag name
	env   map[string]string
	file  *configFile // nil without one
}

// environment turns the form of os.Environ into a map. Of a name that is there twice the first counts, as for
// os.Getenv.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		if _, ok := env[name]; !ok {
			env[name] = text
		}
	}
	return env
}

// secretFileSuffix ends the names of the environment variables that name a file with a secret in it.
const secretFileSuffix = "_FILE"

// load reads the YAML file if a flag or the environment names one.
func (s *sources) load(list []setting) error {
	i := slices.IndexFunc(list, func(set setting) bool { return set.name == "config" })
	v, given, err := s.find(list[i])
	if err != nil || !given {
		return err
	}
	s.file, err = readConfigFile(strings.TrimSpace(v.text), v.where, list, s.env)
	return err
}

// find returns what the strongest source says about a setting, and the default if none does; given tells the two apart.
func (s *sources) find(set setting) (v value, given bool, err error) {
	v = value{where: set.label(), text: s.flags[set.name], secret: set.field.secret}
	if !v.empty() {
		return v, true, nil
	}
	v.text = s.env[set.variable()]
	if set.fromFile {
		name := set.variable() + secretFileSuffix
		if v, err = orFromFile(v, value{text: s.env[name], where: name}); err != nil {
			return v, false, err
		}
	}
	if !v.empty() {
		return v, true, nil
	}
	if s.file != nil {
		if v, err = s.file.find(set); err != nil || !v.empty() {
			return v, true, err
		}
	}
	return value{text: set.preset, where: set.label(), secret: set.field.secret}, false, nil
}

// orFromFile returns v, or the content of the file at path. Both at once are refused: one of them would be ignored.
func orFromFile(v, path value) (value, error) {
	switch {
	case path.empty():
		return v, nil
	case !v.empty():
		return v, fmt.Errorf("%s and %s: both are set; allowed: one of them", v.where, path.where)
	}
	text, err := readSecretFile(strings.TrimSpace(path.text))
	if err != nil {
		return v, path.refused(err)
	}
	return value{text: text, where: path.where, secret: true}, nil
}

func readSecretFile(path string) (string, error) {
	const allowed = "; allowed: a file with nothing but the secret"
	content, err := keyfile.Read(path)
	if err != nil {
		return "", unusableFile(err, allowed)
	}
	text := strings.TrimSpace(string(content))
	if text == "" {
		return "", errors.New("is empty" + allowed)
	}
	return text, nil
}

// unusableFile is the reason why a file is not taken, without its path, which the caller names.
func unusableFile(err error, allowed string) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("cannot be read (%w); allowed: the path of a readable file", at.Err)
	}
	return fmt.Errorf("%w%s", err, allowed)
}

// unknownVariables warns of environment variables that look like settings and are none.
func (s *sources) unknownVariables(list []setting) []string {
	var known []string
	for _, set := range list {
		known = append(known, set.variables()...)
	}
	var warnings []string
	for name, text := range s.env {
		if !strings.HasPrefix(name, "KEYTURN_") || strings.HasPrefix(name, "KEYTURN_TEST_") || text == "" ||
			slices.Contains(known, name) || s.file != nil && s.file.used[name] {
			continue
		}
		about := shorten(name, maxShown) + ": this environment variable is not a setting" + didYouMean(name, known)
		warnings = append(warnings, oneLine(errors.New(about)).Error())
	}
	slices.Sort(warnings)
	return warnings
}

// unusableProxies warns of environment variables that name no proxy. net/http passes them over without a word, or takes http://http://HOST
// for what was meant.
func (s *sources) unusableProxies() []string {
	var warnings []string
	for _, name := range proxyVariables(s.env) {
		proxy, err := proxyOf(s.env[name])
		if err != nil || proxy == nil || proxy.Hostname() == "" || strings.HasSuffix(proxy.Host, ":") {
			warnings = append(warnings, name+": is not the URL of a proxy, and what is to go by it goes directly or not at all; allowed: http://HOST:PORT")
		}
	}
	return warnings
}

// proxyVariables are the environment's variables that net/http takes proxies from: of two that mean the same the first counts.
func proxyVariables(env map[string]string) []string {
	var set []string
	for _, names := range [][]string{{"HTTP_PROXY", "http_proxy"}, {"HTTPS_PROXY", "https_proxy"}} {
		if name, _ := firstSet(env, names...); name != "" {
			set = append(set, name)
		}
	}
	return set
}

// proxyOf is the proxy that net/http takes an environment variable to name; nil: none.
func proxyOf(text string) (*url.URL, error) {
	config := httpproxy.Config{HTTPSProxy: text}
	return config.ProxyFunc()(&url.URL{Scheme: "https", Host: "any.example"})
}
