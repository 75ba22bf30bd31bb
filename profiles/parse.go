// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// syscallGroups names the groups of system calls that a policy may allow in
// addition to the default. Package seccomp says what is in them.
var syscallGroups = []string{"debug", "nested", "packaging", "perf"}

// Parse reads a policy from YAML. source names the document in errors and in
// Sources; text is at most 1 MiB. The profiles that the document extends are
// merged below it, in their order. The error is an *Error.
func Parse(source string, text []byte) (Policy, error) {
	d := decoder{reader: reader{source: source}}
	if err := d.document(text); err != nil {
		return Policy{}, err
	}
	return d.result(Source{Name: source, Digest: digest(text)}), nil
}

// decoder reads one document into a layer.
type decoder struct {
	reader
	embedded bool // description and commands are accepted, grants are optional
	depth    int  // of extends, bounded against a cycle among embedded profiles

	versioned   bool
	description string
	commands    []string
	extended    []Policy
	layer       Policy
}

// result merges what the document extends with what it says itself.
func (d *decoder) result(source Source) Policy {
	var below Policy
	name := d.layer.name
	for _, p := range d.extended {
		below = below.With(p)
		if d.layer.name == "" {
			name = p.name
		}
	}
	d.layer.sources = []Source{source}
	out := below.With(d.layer)
	out.name = name
	return out
}

// document reads the whole text.
func (d *decoder) document(text []byte) error {
	root, err := parseDocument(d.source, text)
	if err != nil {
		return err
	}
	if _, null := root.(*ast.NullNode); null {
		return &Error{Source: d.source, Msg: "empty: a policy needs at least version: 1"}
	}
	fields := []field{
		{"version", d.version},
		{"extends", d.extends},
		{"filesystem", d.filesystem},
		{"network", d.network},
		{"syscalls", d.syscalls},
		{"environment", d.environment},
		{"limits", d.limits},
		{"log", d.log},
	}
	if d.embedded {
		fields = append(fields, field{"description", d.setDescription}, field{"commands", d.setCommands})
	}
	if err := d.mapping(root, "a policy", fields); err != nil {
		return err
	}
	if !d.versioned {
		return d.fail(root, errorf("version is missing: a policy needs version: 1"))
	}
	return nil
}

func (d *decoder) version(n ast.Node) error {
	number, ok := n.(*ast.IntegerNode)
	if !ok {
		return d.fail(n, errorf("version must be the number 1, not %s", kind(n)))
	}
	if v := number.GetToken().Value; v != "1" {
		return d.fail(n, errorf("version %s is not known: this program reads version 1", show(v)))
	}
	d.versioned = true
	return nil
}

func (d *decoder) extends(n ast.Node) error {
	return d.list(n, "extends", func(entry ast.Node) error {
		name, err := d.text(entry)
		if err != nil {
			return err
		}
		profile, err := load(name, d.depth+1)
		if err != nil {
			return d.fail(entry, err)
		}
		d.extended = append(d.extended, profile.Policy)
		return nil
	})
}

func (d *decoder) setDescription(n ast.Node) (err error) {
	d.description, err = d.text(n)
	return err
}

func (d *decoder) setCommands(n ast.Node) error {
	return d.strings(n, "commands", &d.commands, func(name string) error {
		if name == "" || strings.ContainsAny(name, "/* ") {
			return errorf("%s is not the name of a command", show(name))
		}
		return nil
	})
}

// strings reads a list of strings, each of which must pass the check.
func (d *decoder) strings(n ast.Node, what string, out *[]string, check func(string) error) error {
	return d.list(n, what, func(entry ast.Node) error {
		s, err := d.text(entry)
		if err != nil {
			return err
		}
		if err := check(s); err != nil {
			return d.fail(entry, err)
		}
		*out = append(*out, s)
		d.note(what, s, entry)
		return nil
	})
}

func (d *decoder) filesystem(n ast.Node) error {
	var f Files
	paths := func(key string, out *[]string, check func(string) error) field {
		return field{key, func(n ast.Node) error { return d.strings(n, key, out, check) }}
	}
	choice := func(key string, out *string, values ...string) field {
		return field{key, func(n ast.Node) (err error) {
			*out, err = d.choice(n, key, values)
			d.note(key, *out, n)
			return err
		}}
	}
	err := d.mapping(n, "filesystem", []field{
		choice("workdir", &f.Workdir, WorkdirReadWrite, WorkdirReadOnly),
		choice("home", &f.Home, HomePrivate, HomeEphemeral),
		choice("secrets", &f.Secrets, SecretsShow, SecretsHide),
		paths("read", &f.Read, checkGrant),
		paths("write", &f.Write, checkGrant),
		paths("hide", &f.Hide, checkGrant),
		paths("protect", &f.Protect, checkProtect),
		paths("unprotect", &f.Unprotect, checkProtect),
		paths("private", &f.Private, checkPrivate),
		paths("noise", &f.Noise, checkNoise),
		paths("with", &f.With, checkToolchain),
		{"provide", func(n ast.Node) error { return d.readProvided(n, &f) }},
	})
	if err != nil {
		return err
	}
	hide := setOf(f.Hide)
	for _, path := range slices.Concat(f.named(), f.Private) {
		if hide[path] {
			return d.fail(n, errorf("path %s is both granted and hidden: hide wins, so leave out one", show(path)))
		}
	}
	if d.embedded {
		f.Optional = unite(f.named(), nil)
	}
	d.layer.files = Files{}.with(f)
	return nil
}

// choice reads one of a few words.
func (d *decoder) choice(n ast.Node, key string, values []string) (string, error) {
	s, err := d.text(n)
	if err != nil {
		return "", err
	}
	if !slices.Contains(values, s) {
		return "", d.fail(n, errorf("%s is %s: it must be %s", key, show(s), strings.Join(values, " or ")))
	}
	return s, nil
}

func (d *decoder) network(n ast.Node) error {
	err := d.mapping(n, "network", append([]field{
		{"allow", func(n ast.Node) error { return d.list(n, "allow", d.rule) }},
		{"deny", func(n ast.Node) error { return d.list(n, "deny", d.denial) }},
		{"loopback", func(n ast.Node) error { return d.list(n, "loopback", d.port("loopback", &d.layer.loopback)) }},
		{"publish", func(n ast.Node) error { return d.list(n, "publish", d.port("publish", &d.layer.publish)) }},
		{"sockets", func(n ast.Node) error { return d.strings(n, "sockets", &d.layer.sockets, checkGrant) }},
		{"upstream", d.upstream},
		{"proxy", d.readProxy},
	}, d.layer.quota.fields(d)...))
	d.layer.rules, d.layer.denials = mergeRules(d.layer.rules), mergeDenials(d.layer.denials)
	d.layer.loopback, d.layer.publish = unite(d.layer.loopback, nil), unite(d.layer.publish, nil)
	d.layer.sockets = unite(d.layer.sockets, nil)
	return err
}

func (d *decoder) upstream(n ast.Node) (err error) {
	if d.layer.upstream, err = d.text(n); err != nil {
		return err
	}
	if err := checkUpstream(d.layer.upstream); err != nil {
		return d.fail(n, err)
	}
	return nil
}

// rule reads one entry of network.allow.
func (d *decoder) rule(n ast.Node) error {
	var requests Requests
	rule, err := d.destination(n, "allow", PortRange{defaultPort, defaultPort}, parseGranted, requests.fields(d)...)
	if err != nil {
		return err
	}
	rule.Requests = requests
	if err := rule.checkRequests(); err != nil {
		return d.fail(n, err)
	}
	d.layer.rules = append(d.layer.rules, rule)
	return nil
}

// destination reads an entry of a list of network whose ports are fallback where it names none.
func (d *decoder) destination(n ast.Node, list string, fallback PortRange, parseHost hostParser, more ...field) (Rule, error) {
	what := "a rule of network." + list
	var rule Rule
	var ports []PortRange
	var named []string // which of host and cidr are there
	target := func(key string, parse func(string) error) field {
		return field{key, func(n ast.Node) error {
			named = append(named, key)
			s, err := d.text(n)
			if err != nil {
				return err
			}
			if err := parse(s); err != nil {
				return d.fail(n, err)
			}
			return nil
		}}
	}
	err := d.mapping(n, what, append([]field{
		target("host", func(s string) (err error) { rule.Host, rule.Suffix, err = parseHost(s); return err }),
		target("cidr", func(s string) (err error) { rule.Prefix, err = parsePrefix(s); return err }),
		{"ports", func(n ast.Node) (err error) { ports, err = d.ports(n); return err }},
	}, more...))
	if err != nil {
		return Rule{}, err
	}
	if len(named) != 1 {
		return Rule{}, d.fail(n, errorf("%s needs host or cidr, and not both", what))
	}
	rule.Ports = ports
	if ports == nil {
		rule.Ports = []PortRange{fallback}
	}
	d.note(list, rule.Target(), n)
	return rule, nil
}

// ports reads the ports of a rule. An empty list would make a rule that never
// matches.
func (d *decoder) ports(n ast.Node) ([]PortRange, error) {
	var ports []PortRange
	err := d.list(n, "ports", func(entry ast.Node) error {
		s, err := d.number(entry)
		if err != nil {
			return err
		}
		r, err := parsePortRange(s)
		if err != nil {
			return d.fail(entry, err)
		}
		ports = append(ports, r)
		return nil
	})
	if err == nil && len(ports) == 0 {
		err = d.fail(n, errorf("ports is empty and would match nothing: leave it out"))
	}
	return ports, err
}

// port reads one port into a list.
func (d *decoder) port(key string, list *[]uint16) func(ast.Node) error {
	return func(n ast.Node) error {
		s, err := d.number(n)
		if err != nil {
			return err
		}
		port, ok := parsePort(s)
		if !ok {
			return d.fail(n, errorf("%s is not a port: write a number from 1 to 65535", show(s)))
		}
		*list = append(*list, port)
		d.note(key, s, n)
		return nil
	}
}

func (d *decoder) syscalls(n ast.Node) error {
	var groups []string
	err := d.mapping(n, "syscalls", []field{{"allow", func(n ast.Node) error {
		return d.strings(n, "syscalls.allow", &groups, checkGroup)
	}}})
	d.layer.syscalls = unite(groups, nil)
	return err
}

// checkGroup accepts the name of a known group of system calls.
func checkGroup(name string) error {
	if slices.Contains(syscallGroups, name) {
		return nil
	}
	return errorf("system call group %s is unknown: there are %s", show(name), strings.Join(syscallGroups, ", "))
}

func (d *decoder) environment(n ast.Node) error {
	var env Environment
	err := d.mapping(n, "environment", []field{
		{"pass", func(n ast.Node) error {
			return d.strings(n, "pass", &env.Pass, func(name string) error { return checkVariable(name, true) })
		}},
		{"set", func(n ast.Node) error { return d.variables(n, &env) }},
	})
	if err != nil {
		return err
	}
	for _, name := range env.Pass {
		if _, set := env.Set[name]; set {
			return d.fail(n, errorf("variable %s is both passed and set: leave out one", name))
		}
	}
	d.layer.env = Environment{}.with(env)
	return nil
}

// variables reads environment.set.
func (d *decoder) variables(n ast.Node, env *Environment) error {
	return d.pairs(n, "set", func(key, value ast.Node) error {
		name, err := d.text(key)
		if err != nil {
			return err
		}
		if err := checkVariable(name, false); err != nil {
			return d.fail(key, err)
		}
		s, err := d.text(value)
		if err != nil {
			return err
		}
		if err := checkValue(name, s); err != nil {
			return d.fail(value, err)
		}
		env.set(name, s)
		return nil
	})
}

func (d *decoder) log(n ast.Node) error {
	return d.mapping(n, "log", []field{
		{"on_error", func(n ast.Node) (err error) {
			d.layer.logError, err = d.choice(n, "on_error", []string{LogStop, LogContinue})
			return err
		}},
		d.bound("max_size", func(s string) (err error) { d.layer.logSize, err = parseLogSize(s); return err }),
	})
}

// bound is a field whose value is a number, a size or the like.
func (d *decoder) bound(key string, parse func(string) error) field {
	return field{key, func(n ast.Node) error {
		s, err := d.number(n)
		if err != nil {
			return err
		}
		if err := parse(s); err != nil {
			return d.fail(n, err)
		}
		return nil
	}}
}

func (d *decoder) limits(n ast.Node) error {
	l := &d.layer.limits
	return d.mapping(n, "limits", []field{
		d.bound("memory", func(s string) (err error) { l.Memory, err = ParseSize(s); return err }),
		d.bound("pids", func(s string) (err error) { l.Pids, err = parsePids(s); return err }),
		d.bound("cpus", func(s string) (err error) { l.CPUs, err = parseCPUs(s); return err }),
		d.bound("ttl", func(s string) (err error) { l.TTL, err = parseTTL(s); return err }),
	})
}
