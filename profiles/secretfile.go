// SPDX-License-Identifier: Apache-2.0

package profiles

import (
	"path"
	"slices"
	"strings"
)

// Values of Files.Secrets. An empty one is to be taken for SecretsShow.
const (
	SecretsShow = "show"
	SecretsHide = "hide"
)

// secretFiles are the names, in lower case, of files in a project that hold secrets by the habit of the tools that read them: settings of
// one machine (dotenv), private keys and key stores (ssh-keygen(1), openssl(1), keytool), logins (netrc, pgpass, pypirc,
// git-credential-store(1), gcloud). A certificate alone is no secret, so that not all of *.pem is here.
var secretFiles = []string{
	".env", ".env.*", "*.env", ".envrc.local",
	"*.key", "key.pem", "*-key.pem", "*_key.pem", "*.key.pem", "priv*.pem", "*.p8", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk",
	"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk",
	".netrc", ".pgpass", ".pypirc", ".git-credentials", ".htpasswd", ".vault-pass", ".vault_pass",
	"credentials.json", "client_secret*.json", "service-account*.json", "service_account*.json", "serviceaccount*.json",
}

// patternFiles are those of them that are handed out to be filled in.
var patternFiles = []string{"example", "sample", "template", "dist", "defaults", "schema"}

// IsSecretFile tells whether a file of a project holds secrets, by its name.
func IsSecretFile(name string) bool {
	name = strings.ToLower(name)
	if i := strings.LastIndexByte(name, '.'); i >= 0 && slices.Contains(patternFiles, name[i+1:]) {
		return false
	}
	return slices.ContainsFunc(secretFiles, func(pattern string) bool { ok, _ := path.Match(pattern, name); return ok })
}

// SkipsSecrets tells whether no secret of a project's is looked for in a directory of this name: packages and git fill it, as a whole.
func SkipsSecrets(name string) bool {
	return name == RepositoryName || slices.Contains(unpacked, strings.ToLower(name))
}

// WithSecrets returns the policy with SecretsShow or SecretsHide.
func (p Policy) WithSecrets(what string) (Policy, error) {
	if what != SecretsShow && what != SecretsHide {
		return Policy{}, errorf("%s is not known: a run can %s or %s secrets", show(what), SecretsShow, SecretsHide)
	}
	return p.With(Policy{files: Files{Secrets: what}}), nil
}
