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
	return slices.ContainsFunc(nameWords(name), func(word string) bool { return secretWordOfName(word, value) })
}

// nameWords are the words of a name, in capitals.
func nameWords(name string) []string {
	return strings.FieldsFunc(strings.ToUpper(name), func(r rune) bool { return r == '_' || r == '-' || r == '.' })
}

// secretWordOfName judges one word of a name.
func secretWordOfName(word, value string) bool {
	if word == "TOKENS" && value != "" && strings.Trim(value, "0123456789") == "" {
		return false
	}
	return slices.Contains(secretWords, word) ||
		slices.ContainsFunc(secretEnds, func(end string) bool { return strings.HasSuffix(word, end) })
}

// secretPrefixes are what the tokens of well-known services start with, and
// the least number of characters that follow in a real one.
var secretPrefixes = []struct {
	prefix string
	least  int
}{
	{"AGE-SECRET-KEY-1", 20},
	{"AIza", 30},   // Google API key
	{"AKIA", 16},   // AWS access key
	{"ASIA", 16},   // AWS temporary access key
	{"ATATT3", 20}, // Atlassian
	{"ATCTT3", 20},
	{"CCIPAT_", 20}, // CircleCI
	{"CFPAT-", 20},  // Contentful
	{"GOCSPX-", 20}, // Google OAuth client
	{"HRKU-", 20},   // Heroku
	{"NRAK-", 20},   // New Relic
	{"PMAK-", 20},   // Postman
	{"SG.", 20},     // SendGrid
	{"bkua_", 20},   // Buildkite
	{"dckr_oat_", 16},
	{"dckr_pat_", 16},
	{"doo_v1_", 20}, // DigitalOcean
	{"dop_v1_", 20},
	{"dor_v1_", 20},
	{"dp.pt.", 20}, // Doppler
	{"dp.st.", 20},
	{"figd_", 20}, // Figma
	{"fm2_", 20},  // Fly.io
	{"gho_", 20},  // GitHub: OAuth, personal, user, server, refresh
	{"ghp_", 20},
	{"ghr_", 20},
	{"ghs_", 20},
	{"ghu_", 20},
	{"github_pat_", 20},
	{"glagent-", 16}, // GitLab: agent, CI job, deploy, feed, OAuth, personal, trigger, runner
	{"glcbt-", 16},
	{"gldt-", 16},
	{"glft-", 16},
	{"gloas-", 16},
	{"glpat-", 16},
	{"glptt-", 16},
	{"glrt-", 16},
	{"glc_", 20}, // Grafana
	{"glsa_", 20},
	{"gsk_", 20}, // Groq
	{"hf_", 20},  // Hugging Face
	{"hvb.", 16}, // HashiCorp Vault
	{"hvs.", 16},
	{"lin_api_", 16},
	{"lin_oauth_", 16},
	{"lsv2_pt_", 20}, // LangSmith
	{"lsv2_sk_", 20},
	{"nfp_", 20}, // Netlify
	{"npm_", 20},
	{"ntn_", 20}, // Notion
	{"ops_eyJ", 20},
	{"pcsk_", 20}, // Pinecone
	{"pplx-", 20}, // Perplexity
	{"pscale_oauth_", 16},
	{"pscale_pw_", 16},
	{"pscale_tkn_", 16},
	{"pypi-", 20},
	{"r8_", 20},      // Replicate
	{"rk_live_", 16}, // Stripe
	{"rk_test_", 16},
	{"rubygems_", 16},
	{"sbp_", 20},   // Supabase
	{"shpat_", 16}, // Shopify
	{"shpca_", 16},
	{"shppa_", 16},
	{"shpss_", 16},
	{"sk-", 16}, // OpenAI, Anthropic and their like
	{"sk_live_", 16},
	{"sk_test_", 16},
	{"sntrys_", 20}, // Sentry
	{"sntryu_", 20},
	{"sq0atp-", 16}, // Square
	{"sq0csp-", 16},
	{"tvly-", 16},  // Tavily
	{"whsec_", 16}, // Stripe
	{"xai-", 20},
	{"xapp-", 16}, // Slack
	{"xoxa-", 10},
	{"xoxb-", 10},
	{"xoxe-", 10},
	{"xoxp-", 10},
	{"xoxr-", 10},
	{"xoxs-", 10},
	{"ya29.", 20}, // Google OAuth
}

// secretValue looks for a private key, a URL with a password, an HTTP
// Authorization header, or a word that has the form of a known token.
func secretValue(value string) bool {
	if strings.Contains(value, "-----BEGIN ") && strings.Contains(value, "PRIVATE KEY") {
		return true
	}
	for _, scheme := range []string{"Bearer ", "Basic "} {
		if _, rest, ok := strings.Cut(value, scheme); ok && tokenLen(rest) >= 12 {
			return true
		}
	}
	return len(userinfoSpans(value, nil)) > 0 || slices.ContainsFunc(strings.FieldsFunc(value, notToken), secretWord)
}

// secretWord judges one run of token characters.
func secretWord(word string) bool {
	if isJWT(word) {
		return true
	}
	return slices.ContainsFunc(secretPrefixes, func(p struct {
		prefix string
		least  int
	}) bool {
		return strings.HasPrefix(word, p.prefix) && len(word)-len(p.prefix) >= p.least
	})
}

// isJWT recognises a JSON Web Token (RFC 7519): three parts in base64, of
// which the first is an object, {" in base64 being eyJ.
func isJWT(word string) bool {
	header, rest, ok := strings.Cut(word, ".")
	payload, _, signed := strings.Cut(rest, ".")
	return ok && signed && len(header) > 10 && strings.HasPrefix(header, "eyJ") && len(payload) > 10
}

// notToken reports whether a character cannot be part of a token.
func notToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') &&
		r != '-' && r != '_' && r != '.'
}

// tokenLen counts the characters of a token at the start of s, of which base64
// may have some more.
func tokenLen(s string) int {
	n := strings.IndexFunc(s, func(r rune) bool { return notToken(r) && r != '+' && r != '/' && r != '=' })
	if n < 0 {
		return len(s)
	}
	return n
}
