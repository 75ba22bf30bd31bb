// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var version = regexp.MustCompile(`\d+\.\d+\.\d+`)

// TestAgents: the real agents start inside, say the same version as outside, and are refused no system call.
// Containment check: R03.
func TestAgents(t *testing.T) {
	needSuite(t)
	for _, agent := range []struct{ name, profile string }{
		{"claude", "claude-code"}, {"codex", "codex"}, {"gemini", "gemini-cli"}, {"opencode", "opencode"},
	} {
		t.Run(agent.name, func(t *testing.T) {
			p := newPlace(t)
			program := filepath.Join(suite.cache, "agents/node_modules/.bin", agent.name)
			if _, err := os.Stat(program); err != nil {
				lack(t, "not installed: "+err.Error())
			}
			outside := p.must(t, program, "--version")
			if !version.MatchString(outside) {
				t.Fatalf("outside it says %q", outside)
			}
			stdout, stderr, code := p.run(t, "agentjail", "run", "--", program, "--version")
			if code != 0 || version.FindString(stdout) != version.FindString(outside) {
				t.Fatalf("exit %d, %q, outside %q\n%s", code, stdout, outside, stderr)
			}
			checkAgentLog(t, p, agent.profile)
		})
	}
}

// checkAgentLog checks that the profile was chosen by the command's name, and what was refused on the way.
func checkAgentLog(t *testing.T, p place, profile string) {
	t.Helper()
	events := p.ended(t)
	if !strings.Contains(string(events[0].Detail), profile) {
		t.Errorf("the first event does not name the profile %s: %s", profile, events[0].Detail)
	}
	denied := 0
	for _, e := range events {
		if e.Decision == "deny" {
			denied++
		}
		if e.Decision == "deny" && e.Class == "syscall" {
			t.Logf("refused: %v", e)
		}
	}
	t.Logf("%d events, %d denied", len(events), denied)
}

// fakeModel answers as OpenAI's API does: first that a command is to be run, then that all is done.
const fakeModel = `
import http.server, json
asked = 0
class API(http.server.BaseHTTPRequestHandler):
	def log_message(self, *args):
		pass
	def do_GET(self):
		self.answer('application/json', '{"object": "list", "data": []}')
	def do_POST(self):
		global asked
		self.rfile.read(int(self.headers['Content-Length']))
		asked += 1
		item = {'type': 'function_call', 'id': 'f', 'call_id': 'c', 'name': 'exec_command', 'arguments': json.dumps({'cmd': 'pwd > made'})}
		if asked > 1:
			item = {'type': 'message', 'id': 'm', 'role': 'assistant', 'content': [{'type': 'output_text', 'text': 'all is done'}]}
		usage = {'input_tokens': 1, 'output_tokens': 1, 'total_tokens': 2}
		events = [
			{'type': 'response.created', 'response': {'id': 'r'}},
			{'type': 'response.output_item.done', 'item': item},
			{'type': 'response.completed', 'response': {'id': 'r', 'usage': usage}},
		]
		self.answer('text/event-stream', ''.join('event: %s\ndata: %s\n\n' % (e['type'], json.dumps(e)) for e in events))
	def answer(self, kind, text):
		self.send_response(200)
		self.send_header('Content-Type', kind)
		self.send_header('Content-Length', str(len(text)))
		self.end_headers()
		self.wfile.write(text.encode())
server = http.server.ThreadingHTTPServer(('127.0.0.1', 8000), API)
open('listens', 'w').close()
server.serve_forever()
`

// codexWith runs Codex in a run, with that server.
const codexWith = `
python3 model.py &
until [ -e listens ]; do sleep 0.1; done
export OPENAI_API_KEY=none
codex=$1
shift
"$codex" exec --skip-git-repo-check -c 'model_providers.fake={name="fake", base_url="http://127.0.0.1:8000/v1", wire_api="responses"}' \
	-c model_provider=fake -c model=gpt-5 "$@" 'say where you are' </dev/null
`

// TestCodexRunsCommands: Codex, which has a sandbox of its own that does not work in a run, runs commands all the same; with it none starts, and
// the log says why.
// Containment checks: R03, R05.
func TestCodexRunsCommands(t *testing.T) {
	needSuite(t)
	agents := filepath.Join(suite.cache, "agents")
	codex := filepath.Join(agents, "node_modules/.bin/codex")
	if _, err := os.Stat(codex); err != nil {
		lack(t, "not installed: "+err.Error())
	}
	for _, own := range [][]string{nil, {"--sandbox", "workspace-write"}} {
		p := newPlace(t)
		p.write(t, "model.py", fakeModel)
		p.write(t, "codex.sh", codexWith)
		args := append([]string{"run", "--quiet", "--profile", "codex", "--ro", agents, "--", "sh", "codex.sh", codex}, own...)
		stdout, stderr, code := p.run(t, "agentjail", args...)
		if code != 0 || !strings.Contains(stdout, "all is done") {
			t.Fatalf("exit %d, %s\n%s", code, stdout, stderr)
		}
		made, err := os.ReadFile(filepath.Join(p.project, "made"))
		refused := slices.ContainsFunc(p.ended(t), func(e event) bool {
			return e.Class == "syscall" && e.Decision == "deny" && strings.Contains(e.Reason, "sandbox")
		})
		if own == nil && (strings.TrimSpace(string(made)) != p.project || refused) || own != nil && (err == nil || !refused) {
			t.Errorf("with %q the command wrote %q (%v), a namespace was refused: %t\n%s", own, made, err, refused, stderr)
		}
	}
}
