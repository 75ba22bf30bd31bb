// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"strings"
	"testing"
)

func TestLooksSecretByName(t *testing.T) {
	for _, name := range []string{
		"GITHUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "NPM_TOKEN", "npm_config__authToken", "npm_config__auth",
		"DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "SMTP_PASS", "GPG_PASSPHRASE", "VAULT_TOKEN",
		"CLIENT_SECRET", "clientSecret", "GOOGLE_APPLICATION_CREDENTIALS", "SSH_AUTH_SOCK",
		"GPG_AGENT_INFO", "OP_SESSION_my", "KUBECONFIG", "SENTRY_DSN", "SESSION_COOKIE", "GH_PAT",
		"APIKEY", "MyPrivateKey", "DOCKER_AUTH_CONFIG", "AZURE-CLIENT-SECRET", "oauth.token", "API_TOKENS",
	} {
		if !LooksSecret(name, "x") {
			t.Errorf("%s is not recognised", name)
		}
		if LooksSecret(name, "") {
			t.Errorf("%s is taken for a secret though it is empty", name)
		}
	}
	for _, name := range []string{
		"PATH", "PWD", "OLDPWD", "HOME", "LANG", "TERM", "GIT_AUTHOR_NAME", "KEYBOARD", "MONKEY",
		"XKB_KEYMAP", "TOKENIZERS_PARALLELISM", "DESKTOP_SESSION", "COMPASS", "PATHEXT", "DISPLAY",
		"GIT_ASKPASS", "BYPASS", "AUTHORS", "SECRETARY", "XDG_SESSION_ID",
	} {
		if LooksSecret(name, "x") {
			t.Errorf("%s is taken for a secret", name)
		}
	}
	if LooksSecret("MAX_OUTPUT_TOKENS", "32000") {
		t.Error("a number of tokens is taken for a secret")
	}
}

func TestLooksSecretByValue(t *testing.T) {
	x := strings.Repeat("a1B2", 10)
	for _, value := range []string{
		"ghp_" + x, "gho_" + x, "github_pat_" + x, "glpat-" + x, "sk-" + x, "sk-ant-api03-" + x,
		"sk_live_" + x, "xoxb-1234567890-abc", "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE",
		"AIza" + x, "ya29." + x, "npm_" + x, "pypi-" + x, "hf_" + x, "hvs." + x, "dckr_pat_" + x,
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "-----BEGIN PRIVATE KEY-----",
		"postgres://user:hunter2@db/x", "https://ghtoken@github.com/a/b", "https://u:p@host",
		"redis://:secret@cache:6379", "see https://example.com and amqp://u:p@mq/",
		"Authorization: Bearer abcdefghijklmnop", "Basic dXNlcjpwYXNzd29yZA==",
		`{"token":"ghp_` + x + `"}`, "--token=glpat-" + x, "a,sk-" + x + ",b",
	} {
		if !LooksSecret("X", value) {
			t.Errorf("%q is not recognised", value)
		}
	}
	for _, value := range []string{
		"", "1", "true", "/home/u/.config", "xterm-256color", "en_US.UTF-8", "sk-learn", "npm_config",
		"ssh://git@github.com/a/b", "https://example.com/@scope/pkg", "https://example.com:443/a@b",
		"mailto:a@b.example", "eyJ.a.b", "AKIA", "AKIDO", "task-" + x, "desk-" + x, "risk_" + x,
		"-----BEGIN CERTIFICATE-----", "Bearer x", "Basic English", "://", "https://@host", "a://b:@c",
		strings.Repeat("a", 100), "SG.x", "git@github.com:a/b.git",
	} {
		if LooksSecret("X", value) {
			t.Errorf("%q is taken for a secret", value)
		}
	}
}

// A long value is judged by its start, and takes no longer than that.
func TestLooksSecretIsBounded(t *testing.T) {
	filler := strings.Repeat("x ", maxScanned)
	if LooksSecret("X", filler+"https://u:p@h") {
		t.Error("what lies behind the bound was read")
	}
	if !LooksSecret("X", "https://u:p@h "+filler) {
		t.Error("the start of a long value was not read")
	}
	if LooksSecret("X", strings.Repeat("://", maxScanned)) {
		t.Error("a row of separators is taken for a secret")
	}
}
