// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"slices"
	"strings"
)

// maxScanned bounds how much of a value LooksSecret reads.
const maxScanned = 64 << 10

// LooksSecret guesses whether a variable is a credential or leads to one, by
// its name or by its value. It decides what a report mentions, never what is
// withheld: that is Environment's, which passes only what is listed.
func LooksSecret(name, value string) bool {
	if value == "" {
		return false
	}
	if len(value) > maxScanned {
		value = value[:maxScanned]
	}
	return secretName(name, value) || secretValue(value)
}

// Words of a name, in capitals, that mean a credential; and ends of words,
// for names such as PGPASSWORD.
var (
	secretWords = []string{
		"APIKEY", "AUTH", "AUTHORIZATION", "BEARER", "COOKIE", "CREDENTIAL",
		"CREDENTIALS", "CREDS", "DSN", "JWT", "KEY", "KEYS", "KUBECONFIG",
		"NETRC", "OAUTH", "PASS", "PASSPHRASE", "PAT", "PRIVATE", "PWD",
		"SECRET", "SECRETS", "TOKEN", "TOKENS",
	}
	secretEnds = []string{
		"ACCESSKEY", "ACCOUNTKEY", "APIKEY", "AUTHORIZATION", "CREDENTIAL", "CREDENTIALS", "PASSPHRASE",
		"PASSWD", "PASSWORD", "PRIVATEKEY", "SECRET", "SECRETKEY", "TOKEN",
	}
)

// secretName judges the words of a name. PWD is the working directory unless
// it is a word among others, and TOKENS may count them.
func secretName(name, value string) bool {
	upper := strings.ToUpper(name)
	switch {
	case upper == "PWD" || upper == "OLDPWD":
		return false
	case upper == "GPG_AGENT_INFO" || strings.HasPrefix(upper, "OP_SESSION"):
		return true
	}
	words := strings.FieldsFunc(upper, func(r rune) bool { return r == '_' || r == '-' || r == '.' })
	return slices.ContainsFunc(words, func(word string) bool { return isSecretWord(word, value) })
}

// isSecretWord judges one word of a name, in capitals.
func isSecretWord(word, value string) bool {
	if word == "TOKENS" && value != "" && strings.Trim(value, "0123456789") == "" {
		return false
	}
	return slices.Contains(secretWords, word) || hasSecretEnd(word)
}

func hasSecretEnd(word string) bool {
	return slices.ContainsFunc(secretEnds, func(end string) bool { return strings.HasSuffix(word, end) })
}

// secretPrefixes are what the tokens of well-known services start with, and
// the least number of characters that follow in a real one.
var secretPrefixes = []secretPrefix{
	// age, Amazon Web Services, Atlassian, Buildkite, CircleCI, Contentful
	{"AGE-SECRET-KEY-1", 20}, {"AKIA", 16}, {"ASIA", 16}, {"ATATT3", 20}, {"ATCTT3", 20}, {"bkua_", 20}, {"CCIPAT_", 20}, {"CFPAT-", 20},
	// DigitalOcean, Docker Hub, Doppler, Figma, Fly.io
	{"doo_v1_", 20}, {"dop_v1_", 20}, {"dor_v1_", 20}, {"dckr_oat_", 16}, {"dckr_pat_", 16}, {"dp.pt.", 20}, {"dp.st.", 20}, {"figd_", 20}, {"fm2_", 20},
	// GitHub: OAuth, personal, refresh, server, user, fine-grained
	{"gho_", 20}, {"ghp_", 20}, {"ghr_", 20}, {"ghs_", 20}, {"ghu_", 20}, {"github_pat_", 20},
	// GitLab: agent, CI job, deploy, feed, OAuth, personal, trigger, runner
	{"glagent-", 16}, {"glcbt-", 16}, {"gldt-", 16}, {"glft-", 16}, {"gloas-", 16}, {"glpat-", 16}, {"glptt-", 16}, {"glrt-", 16},
	// Google (API, OAuth client, OAuth), Grafana, Groq
	{"AIza", 30}, {"GOCSPX-", 20}, {"ya29.", 20}, {"glc_", 20}, {"glsa_", 20}, {"gsk_", 20},
	// Vault of HashiCorp, Heroku, Hugging Face, LangSmith, Linear
	{"hvb.", 16}, {"hvs.", 16}, {"HRKU-", 20}, {"hf_", 20}, {"lsv2_pt_", 20}, {"lsv2_sk_", 20}, {"lin_api_", 16}, {"lin_oauth_", 16},
	// Netlify, New Relic, Notion, npm, 1Password, OpenAI and Anthropic and their like
	{"nfp_", 20}, {"NRAK-", 20}, {"ntn_", 20}, {"npm_", 20}, {"ops_eyJ", 20}, {"sk-", 16},
	// Perplexity, Pinecone, PlanetScale, Postman, PyPI
	{"pplx-", 20}, {"pcsk_", 20}, {"pscale_oauth_", 16}, {"pscale_pw_", 16}, {"pscale_tkn_", 16}, {"PMAK-", 20}, {"pypi-", 20},
	// Replicate, RubyGems, SendGrid, Sentry, Shopify
	{"r8_", 20}, {"rubygems_", 16}, {"SG.", 20}, {"sntrys_", 20}, {"sntryu_", 20}, {"shpat_", 16}, {"shpca_", 16}, {"shppa_", 16}, {"shpss_", 16},
	// Slack
	{"xapp-", 16}, {"xoxa-", 10}, {"xoxb-", 10}, {"xoxe-", 10}, {"xoxp-", 10}, {"xoxr-", 10}, {"xoxs-", 10},
	// Square, Stripe
	{"sq0atp-", 16}, {"sq0csp-", 16}, {"rk_live_", 16}, {"rk_test_", 16}, {"sk_live_", 16}, {"sk_test_", 16}, {"whsec_", 16},
	// Supabase, Tavily, xAI
	{"sbp_", 20}, {"tvly-", 16}, {"xai-", 20},
}

type secretPrefix struct {
	prefix string
	least  int
}

// secretValue looks for a private key, a URL with a password, an HTTP
// Authorization header, or a word that has the form of a known token.
func secretValue(value string) bool {
	if strings.Contains(value, "-----BEGIN ") && strings.Contains(value, "PRIVATE KEY") {
		return true
	}
	for _, scheme := range []string{"Bearer ", "Basic "} {
		if _, rest, ok := strings.Cut(value, scheme); ok && tokenLen(rest, inBase64) >= leastOfScheme {
			return true
		}
	}
	return webToken().MatchString(value) || len(userinfoSpans(value, nil)) > 0 ||
		slices.ContainsFunc(strings.FieldsFunc(value, notToken), hasSecretPrefix)
}

// hasSecretPrefix judges one run of token characters.
func hasSecretPrefix(word string) bool {
	return slices.ContainsFunc(secretPrefixes, func(p secretPrefix) bool {
		return strings.HasPrefix(word, p.prefix) && len(word)-len(p.prefix) >= p.least
	})
}

// notToken reports whether a character cannot be part of a token.
func notToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') &&
		r != '-' && r != '_' && r != '.'
}

// What else base64 has, and how long what follows the name of a scheme of HTTP
// authentication is at least.
const (
	inBase64      = "+/="
	leastOfScheme = 12
)

// tokenLen counts the characters of a token at the start of s, and those of more.
func tokenLen(s, more string) int {
	n := strings.IndexFunc(s, func(r rune) bool { return notToken(r) && !strings.ContainsRune(more, r) })
	if n < 0 {
		return len(s)
	}
	return n
}
