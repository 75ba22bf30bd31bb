// SPDX-License-Identifier: Apache-2.0

package profiles

import "testing"

// Containment checks: A14.
func TestIsSecretFile(t *testing.T) {
	for name, want := range map[string]bool{
		".env": true, ".ENV": true, ".env.local": true, ".env.production": true, "prod.env": true, "server.key": true, "tls-key.pem": true,
		"privkey1.pem": true, "id_ed25519": true, "release.keystore": true, "client_secret_12.json": true,
		".env.example": false, ".env.sample": false, "server.key.example": false, "ca.pem": false, "id_ed25519.pub": false, "environment": false,
		"keys.go": false, "monkey": false, "credentials.go": false, ".envrc": false,
	} {
		if got := IsSecretFile(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSecretsLayers(t *testing.T) {
	on, err := Parse("a.yaml", []byte("version: 1\nfilesystem: {secrets: hide}\n"))
	if err != nil {
		t.Fatal(err)
	}
	off, err := on.WithSecrets(SecretsShow)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("b.yaml", []byte(on.YAML()))
	if err != nil || again.Files().Secrets != SecretsHide || on.Files().Secrets != SecretsHide || off.Files().Secrets != SecretsShow {
		t.Errorf("%q %q %q %v", on.Files().Secrets, again.Files().Secrets, off.Files().Secrets, err)
	}
	if on.Digest() == off.Digest() {
		t.Error("the digest does not tell them apart")
	}
	if _, err := on.WithSecrets("no"); err == nil {
		t.Error("a word that means nothing was taken")
	}
}
