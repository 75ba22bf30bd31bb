// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/agentjail/agentjail/profiles"
)

// policyFlags say what a run may do; otherwise is the profile without --profile.
func policyFlags(otherwise string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "profile", Usage: "policy `NAME`; " + otherwise + " otherwise"},
		&cli.StringFlag{Name: "policy", Usage: "policy `FILE`, on top of the profile"},
		&cli.StringFlag{Name: "workdir", Usage: "`DIR` to work in (default: the current directory)"},
		&cli.StringSliceFlag{Name: "ro", Usage: "let the command read `PATH`"},
		&cli.StringSliceFlag{Name: "rw", Usage: "let the command read and write `PATH`"},
		&cli.StringSliceFlag{Name: "with", Usage: "let the command read the tools of `SET`, where they are installed: " + strings.Join(profiles.ToolchainNames(), ", ")},
		&cli.StringSliceFlag{Name: "hide", Usage: "hide `PATH`, which lies in a grant"},
		&cli.BoolFlag{Name: "hide-secrets", Usage: "hide .env files and private keys of the working directory"},
		&cli.StringSliceFlag{Name: "protect", Usage: "keep what is called `NAME` from being written or made, wherever it lies"},
		&cli.StringSliceFlag{Name: "unprotect", Usage: "do not protect what is called `NAME`, which is on the list"},
		&cli.StringSliceFlag{Name: "allow-net", Usage: "let the command reach `HOST[:PORT]`, *.SUFFIX[:PORT] or CIDR[:PORT]"},
		&cli.StringSliceFlag{Name: "deny-net", Usage: "refuse `HOST[:PORT][=REASON]`, as --allow-net has it, whatever grants it; without a port all of them"},
		&cli.StringFlag{Name: "max-upload", Usage: "let the command send at most `SIZE`, to all hosts together, such as 1GiB"},
		&cli.StringFlag{Name: "max-upload-per-host", Usage: "let the command send at most `SIZE` to each host"},
		&cli.StringFlag{Name: "max-connections", Usage: "let the command have at most `N` connections at once"},
		&cli.StringSliceFlag{Name: "publish", Usage: "let this machine reach `PORT` inside, at the same port of its loopback"},
		&cli.StringSliceFlag{Name: "socket", Usage: "let the command connect to the Unix socket `PATH` of this machine"},
		&cli.BoolFlag{Name: "proxy", Usage: "give the command a proxy (HTTP, SOCKS 5) to reach the same hosts by, and the variables for it"},
		&cli.StringFlag{Name: "upstream", Usage: "reach hosts by the proxy `URL`, or none (default: environment, HTTPS_PROXY and its like)"},
		&cli.StringSliceFlag{Name: "allow-syscalls", Usage: "allow the `GROUP` of system calls as well: " + strings.Join(profiles.SyscallGroups(), ", ")},
		&cli.StringSliceFlag{Name: "env", Usage: "let variable `NAME` in, or set NAME=VALUE"},
		&cli.StringFlag{Name: "memory", Usage: "at most `SIZE` of memory, such as 4GiB"},
		&cli.Int64Flag{Name: "pids", Usage: "at most `N` processes and threads"},
		&cli.Float64Flag{Name: "cpus", Usage: "at most `X` processors"},
		&cli.DurationFlag{Name: "ttl", Usage: "end the run after `DURATION`, such as 30m"},
		&cli.StringFlag{Name: "log-on-error", Usage: "`WHAT` becomes of a run whose log cannot be written: stop (default) or continue"},
	}
}

// policyFile is the layer of --policy; an empty one without.
func policyFile(c *cli.Context) (profiles.Policy, error) {
	file := c.String("policy")
	if file == "" {
		return profiles.Policy{}, nil
	}
	// As the plan resolves it, and with a name that no embedded profile has.
	if file = filepath.Clean(file); !filepath.IsAbs(file) {
		file = "." + string(filepath.Separator) + file
	}
	data, err := readPolicy(file)
	if err != nil {
		return profiles.Policy{}, fmt.Errorf("--policy: %w", err)
	}
	return profiles.Parse(file, data)
}

// maxPolicy bounds a policy file; Parse refuses one that is longer.
const maxPolicy = 1 << 20

func readPolicy(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPolicy+1))
}

func withFlags(c *cli.Context, policy profiles.Policy) (profiles.Policy, error) {
	limits := profiles.Limits{Pids: c.Int64("pids"), CPUs: c.Float64("cpus"), TTL: c.Duration("ttl")}
	for name, zero := range map[string]bool{"pids": limits.Pids == 0, "cpus": limits.CPUs == 0, "ttl": limits.TTL == 0} {
		if zero && c.IsSet(name) {
			return policy, fmt.Errorf("--%s 0 would stop everything: leave it out for no limit", name)
		}
	}
	if text := c.String("memory"); text != "" {
		size, err := profiles.ParseSize(text)
		if err != nil {
			return policy, fmt.Errorf("--memory: %w", err)
		}
		limits.Memory = size
	}
	for _, step := range []func(profiles.Policy) (profiles.Policy, error){
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithRead(absolute(c.StringSlice("ro"))...) },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithWrite(absolute(c.StringSlice("rw"))...) },
		func(p profiles.Policy) (profiles.Policy, error) {
			return p.WithHide(absolute(c.StringSlice("hide"))...)
		},
		func(p profiles.Policy) (profiles.Policy, error) {
			if !c.IsSet("hide-secrets") {
				return p, nil
			}
			return p.WithSecrets(map[bool]string{true: profiles.SecretsHide, false: profiles.SecretsShow}[c.Bool("hide-secrets")])
		},
		withNames("with", profiles.Policy.WithToolchains, listed(c.StringSlice("with"))),
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithProtect(c.StringSlice("protect")...) },
		func(p profiles.Policy) (profiles.Policy, error) {
			return p.WithUnprotect(c.StringSlice("unprotect")...)
		},
		func(p profiles.Policy) (profiles.Policy, error) { return withNetwork(c, p) },
		func(p profiles.Policy) (profiles.Policy, error) {
			if !c.IsSet("log-on-error") {
				return p, nil
			}
			p, err := p.WithLogOnError(c.String("log-on-error"))
			if err != nil {
				err = fmt.Errorf("--log-on-error: %w", err)
			}
			return p, err
		},
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithLimits(limits) },
		withNames("allow-syscalls", profiles.Policy.WithSyscalls, listed(c.StringSlice("allow-syscalls"))),
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithEnv(c.StringSlice("env")...) },
	} {
		var err error
		if policy, err = step(policy); err != nil {
			return policy, err
		}
	}
	return policy, nil
}

// withNames is the step of a flag that may be repeated; its errors name the flag.
func withNames(flag string, with func(profiles.Policy, ...string) (profiles.Policy, error), names []string) func(profiles.Policy) (profiles.Policy, error) {
	return func(p profiles.Policy) (profiles.Policy, error) {
		p, err := with(p, names...)
		if err != nil {
			err = fmt.Errorf("--%s: %w", flag, err)
		}
		return p, err
	}
}

// withNetwork is withFlags for those about the network.
func withNetwork(c *cli.Context, p profiles.Policy) (profiles.Policy, error) {
	rules, err := parseAll(c, "allow-net", profiles.ParseRule)
	if err != nil {
		return p, err
	}
	denials, err := parseAll(c, "deny-net", profiles.ParseDenial)
	if err != nil {
		return p, err
	}
	quota, err := quotaFlags(c)
	if err != nil {
		return p, err
	}
	for _, step := range []func(profiles.Policy) (profiles.Policy, error){
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithAllow(rules...) },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithDeny(denials...) },
		func(p profiles.Policy) (profiles.Policy, error) { return p.WithQuota(quota) },
		withNames("publish", profiles.Policy.WithPublish, c.StringSlice("publish")),
		func(p profiles.Policy) (profiles.Policy, error) {
			return p.WithSockets(absolute(c.StringSlice("socket"))...)
		},
		func(p profiles.Policy) (profiles.Policy, error) {
			if c.IsSet("proxy") {
				p = p.WithProxy(c.Bool("proxy"))
			}
			if !c.IsSet("upstream") {
				return p, nil
			}
			return p.WithUpstream(c.String("upstream"))
		},
	} {
		if p, err = step(p); err != nil {
			return p, err
		}
	}
	return p, nil
}

// parseAll parses each value of a flag that may be repeated.
func parseAll[T any](c *cli.Context, flag string, parse func(string) (T, error)) (all []T, err error) {
	for _, text := range c.StringSlice(flag) {
		one, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("--%s %s: %w", flag, strconv.Quote(text), err)
		}
		all = append(all, one)
	}
	return all, nil
}

func quotaFlags(c *cli.Context) (q profiles.Quota, err error) {
	size := func(out *int64) func(string) error {
		return func(s string) (err error) { *out, err = profiles.ParseUpload(s); return err }
	}
	for flag, set := range map[string]func(string) error{
		"max-upload": size(&q.Upload), "max-upload-per-host": size(&q.HostUpload),
		"max-connections": func(s string) (err error) { q.Connections, err = profiles.ParseConnections(s); return err },
	} {
		if text := c.String(flag); text != "" {
			if err := set(text); err != nil {
				return q, fmt.Errorf("--%s: %w", flag, err)
			}
		}
	}
	return q, nil
}

// listed are the names of a flag that may be repeated, and may have several with commas between.
func listed(values []string) (names []string) {
	for _, v := range values {
		names = append(names, strings.Split(v, ",")...)
	}
	return names
}

// absolute makes paths of the command line absolute; a policy knows no current directory. An empty one, of a variable that is
// not set, is left for the policy to refuse.
func absolute(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		if full, err := filepath.Abs(p); err == nil && p != "" && !strings.HasPrefix(p, "~") {
			p = full
		}
		out[i] = p
	}
	return out
}
