// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names of ways that others are compared with.
const (
	direct = "direct"
	splice = "Go splice relay"
	byName = "agentjail"
	byAddr = "agentjail, address"

	inspected = "agentjail, inspected"
)

func netWays() []*way {
	srt, err := srtWay()
	npm := filepath.Join(os.Getenv("BENCH_PEERS"), "node_modules/.bin")
	codex, codexErr := codexHome()
	ways := []*way{
		{name: direct, server: serverAddr, resolve: true},
		{name: splice, server: relayAddr},
		{name: byName, server: serverName, resolve: true, argv: []string{"agentjail", "run", "--quiet", "--allow-net", serverName, "--"}},
		{name: byAddr, server: serverAddr, argv: []string{"agentjail", "run", "--quiet", "--allow-net", serverAddr, "--"}},
		{name: "pasta", server: localAddr, argv: []string{"pasta", "--config-net", "-q", "-T", localPort, "-t", "none", "-u", "none", "-U", "none", "--"}},
		{name: "slirp4netns", server: "10.0.2.2:" + localPort, argv: []string{"sh", "-c", slirp, "slirp"}},
		{name: "sandbox-runtime", agent: true, server: serverName, argv: []string{npm + "/srt", "--settings", srt, "--"}},
		{name: "codex", agent: true, server: serverName, argv: []string{npm + "/codex", "sandbox", "--"}, env: []string{"CODEX_HOME=" + codex}},
	}
	for _, w := range ways {
		w.results, w.failed = map[string][]sample{}, map[string]bool{}
		if failed := map[string]error{"sandbox-runtime": err, "codex": codexErr}[w.name]; failed != nil {
			w.refused = failed.Error()
		}
	}
	return ways
}

// tlsWays are those by which TLS is measured: without agentjail, passed on, and inspected.
func tlsWays(authorities, policy string) []*way {
	run := []string{"agentjail", "run", "--quiet"}
	ways := []*way{
		{name: direct},
		{name: byName, argv: slices.Concat(run, []string{"--allow-net", tlsName, "--"})},
		{name: inspected, argv: slices.Concat(run, []string{"--policy", policy, "--"}), env: []string{"SSL_CERT_FILE=" + authorities}},
	}
	for _, w := range ways {
		w.server, w.tasks = tlsName, []string{"tls-down", "tls-up"}
		w.results, w.failed = map[string][]sample{}, map[string]bool{}
	}
	ways[0].server = tlsAddr
	return ways
}

// codexHome writes a configuration by which codex has its proxy pass the server on, in a directory that it may write to: one below TMPDIR
// it refuses.
func codexHome() (dir string, err error) {
	dir = filepath.Join(filepath.Dir(os.Getenv("TMPDIR")), "codex")
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return "", err
	}
	host, _, _ := strings.Cut(serverName, ":")
	text := "default_permissions = \"bench\"\n[features]\nnetwork_proxy = true\n[permissions.bench.filesystem]\n\":root\" = \"read\"\n" +
		"[permissions.bench.network]\nenabled = true\nmode = \"full\"\nallow_local_binding = true\n" +
		"[permissions.bench.network.domains]\n\"" + host + "\" = \"allow\"\n"
	return dir, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o644)
}

// slirp starts its arguments in a namespace that slirp4netns serves; its 10.0.2.2 is the host's loopback (slirp4netns(1)).
const slirp = `fifo=$(mktemp -u); mkfifo $fifo $fifo.up
unshare -Urn sh -c 'echo $$ >"$0"; read up <"$0.up"; exec "$@"' $fifo "$@" & client=$!
read pid <$fifo
slirp4netns --configure --mtu=65520 --ready-fd=3 $pid tap0 3>$fifo.up >/dev/null 2>&1 & net=$!
wait $client; code=$?; kill $net; rm -f $fifo $fifo.up; exit $code`

// srtWay writes the settings of sandbox-runtime.
func srtWay() (file string, err error) {
	file = filepath.Join(os.Getenv("TMPDIR"), "srt.json")
	host, _, _ := strings.Cut(serverName, ":")
	settings := map[string]any{
		"network":    map[string]any{"allowedDomains": []string{host}, "deniedDomains": []string{}},
		"filesystem": map[string]any{"denyRead": []string{}, "allowWrite": []string{"."}, "denyWrite": []string{}},
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return "", err
	}
	return file, os.WriteFile(file, text, 0o644)
}
