// SPDX-License-Identifier: Apache-2.0

package denyfs

import (
	"path"
	"slices"
	"strings"
)

// Credential reports whether a path is a known place of credentials: of the given home, of /root, or of any home
// below /home, or of the system. It is the default table of paths whose events have that severity.
func Credential(home, file string) bool {
	if credentialOfSystem(file) {
		return true
	}
	rel, ok := relativeToHome(home, file)
	return ok && credentialOfHome(rel)
}

func relativeToHome(home, path string) (string, bool) {
	for _, h := range [...]string{home, "/root"} {
		if h != "" && below(path, h) {
			return path[len(h)+1:], true
		}
	}
	if rest, ok := strings.CutPrefix(path, "/home/"); ok {
		_, rel, found := strings.Cut(rest, "/")
		return rel, found
	}
	return "", false
}

// HoldsCredentials reports whether a directory is one in which known places of credentials lie: a home, in one, or of the system.
func HoldsCredentials(home, dir string) bool {
	holds := func(places []string, dir string) bool {
		return slices.ContainsFunc(places, func(place string) bool { return below(place, dir) })
	}
	if dir == home || dir == "/root" || path.Dir(dir) == "/home" || holds(systemPlaces, dir) {
		return true
	}
	if dir == "/run/user" || path.Dir(dir) == "/run/user" || dir == "/etc/ssh" {
		return true
	}
	rel, ok := relativeToHome(home, dir)
	return ok && holds(homePlaces, rel)
}

// systemPlaces are the known places of the system, with all that lies below each.
var systemPlaces = []string{
	"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/krb5.keytab",
	"/etc/docker/key.json", "/etc/kubernetes/admin.conf", "/etc/rancher/k3s/k3s.yaml", "/etc/ipsec.secrets",
	"/etc/sudoers.d", "/etc/ssl/private", "/etc/pki/private", "/etc/letsencrypt/archive", "/etc/letsencrypt/live",
	"/etc/kubernetes/pki", "/etc/NetworkManager/system-connections", "/etc/wireguard", "/etc/openvpn",
	"/run/secrets", "/var/run/secrets", "/run/agenix", "/var/lib/kubelet/pki",
}

func credentialOfSystem(path string) bool {
	if slices.ContainsFunc(systemPlaces, func(place string) bool { return path == place || below(path, place) }) {
		return true
	}
	if below(path, "/etc/ssh") {
		name := path[len("/etc/ssh/"):]
		return strings.HasPrefix(name, "ssh_host_") && strings.HasSuffix(name, "_key")
	}
	if rest, ok := strings.CutPrefix(path, "/run/user/"); ok {
		_, rel, _ := strings.Cut(rest, "/")
		return rel == "keyring" || below(rel, "keyring") || rel == "gnupg" || below(rel, "gnupg")
	}
	return false
}

// homePlaces are the known places in a home, relative to it, with all that lies below each.
var homePlaces = []string{
	// shells, keys, password stores
	".ssh", ".gnupg", ".password-store", ".local/share/keyrings", ".local/share/kwalletd", ".pki", ".netrc", ".authinfo",
	".authinfo.gpg", ".pgpass", ".my.cnf", ".config/op", ".config/1Password", ".config/Bitwarden", ".config/keybase", ".vault-token",
	".age", ".config/age", ".config/sops", ".wallet", ".bitcoin", ".ethereum", ".electrum", ".smbcredentials", ".Xauthority",
	// histories that do not end in _history at the top of a home: fish(1), atuin, PSReadLine, nushell
	".local/share/fish/fish_history", ".local/share/atuin", ".local/share/powershell", ".config/nushell/history.txt",
	".local/share/zsh", ".local/state/zsh", ".local/state/bash",
	// clouds and clusters
	".aws", ".config/gcloud", ".azure", ".kube", ".docker/config.json", ".config/containers/auth.json", ".oci",
	".terraform.d", ".terraformrc", ".config/doctl", ".config/hcloud", ".config/fly", ".fly", ".config/heroku",
	".config/netlify", ".netlify", ".config/vercel", ".local/share/com.vercel.cli", ".wrangler", ".config/.wrangler",
	".config/rclone", ".s3cfg", ".boto", ".config/helm", ".databrickscfg", ".snowflake", ".minikube", ".pulumi/credentials.json",
	".config/linode-cli", ".config/scw", ".aliyun", ".bluemix", ".config/openstack", ".railway", ".supabase", ".config/stripe",
	".config/ngrok", ".config/configstore", ".influxdbv2",
	// forges and registries
	".git-credentials", ".config/git/credentials", ".config/gh", ".config/hub", ".config/glab-cli", ".config/tea", ".npmrc", ".yarnrc",
	".yarnrc.yml", ".config/pnpm/rc", ".pypirc", ".config/pypoetry/auth.toml", ".local/share/uv/credentials", ".condarc",
	".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials", ".subversion/auth",
	".bundle/config", ".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".composer/auth.json",
	".config/composer/auth.json", ".nuget/NuGet/NuGet.Config", ".config/NuGet/NuGet.Config", ".huggingface/token",
	".cache/huggingface/token", ".kaggle", ".config/pip/pip.conf", ".pip/pip.conf", ".hex/hex.config",
	// browsers and mail
	".mozilla", ".librewolf", ".zen", ".config/google-chrome", ".config/google-chrome-beta", ".config/chromium", ".config/BraveSoftware",
	".config/microsoft-edge", ".config/vivaldi", ".config/opera", ".thunderbird", "snap/firefox", "snap/chromium", "snap/brave",
	".var/app/org.mozilla.firefox", ".var/app/com.google.Chrome", ".var/app/org.chromium.Chromium", ".var/app/com.brave.Browser",
	".var/app/com.microsoft.Edge", ".config/evolution", ".config/Slack", ".config/discord", ".config/Signal",
	// other agents' logins, and those of editors that are agents
	".claude/.credentials.json", ".claude.json", ".codex/auth.json", ".gemini/oauth_creds.json", ".gemini/google_accounts.json",
	".local/share/opencode/auth.json", ".config/github-copilot", ".copilot", ".config/goose", ".aider.conf.yml",
	".config/cursor", ".config/Cursor/User/globalStorage", ".cursor/mcp.json", ".cursor/cli-config.json", ".config/Code/User/globalStorage",
	".continue/config.json", ".config/anthropic", ".config/openai", ".openai", ".qwen/oauth_creds.json", ".factory/auth.json", ".codeium",
	".local/share/amp/secrets.json", ".local/share/amazon-q", ".config/io.datasette.llm/keys.json", ".config/aichat",
}

// credentialOfHome takes a path relative to a home.
func credentialOfHome(rel string) bool {
	inPlace := func(place string) bool { return rel == place || below(rel, place) }
	return slices.ContainsFunc(homePlaces, inPlace) || shellHistory(rel)
}

// CredentialDirs are the directories, relative to a home, in which known places of credentials lie, and which are none themselves.
func CredentialDirs() (dirs []string) {
	for _, place := range homePlaces {
		if dir := path.Dir(place); dir != "." && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// shellHistory reports names such as .bash_history, .python_history and .lesshst at the top of a home.
func shellHistory(rel string) bool {
	if strings.Contains(rel, "/") || !strings.HasPrefix(rel, ".") {
		return false
	}
	return strings.HasSuffix(rel, "_history") || rel == ".history" || rel == ".lesshst" || rel == ".histfile"
}

// protected are the places of a home, relative to it, that programs of the host run or trust without being asked:
// were the private home ever used as a home, or copied into one, they would run there. bash(1), zsh(1), fish(1),
// systemd.unit(5), the XDG autostart specification, pam_env(8).
func protected() []string {
	return []string{
		".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".login", ".logout",
		".cshrc", ".tcshrc", ".kshrc", ".mkshrc", ".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".inputrc",
		".config/fish", ".config/nushell", ".xprofile", ".xsession", ".xsessionrc", ".xinitrc", ".Xresources",
		".pam_environment", ".config/environment.d", ".ssh", ".rhosts", ".shosts", ".forward",
		".config/autostart", ".config/autostart-scripts", ".config/plasma-workspace", ".config/systemd",
		".local/share/systemd", ".local/share/dbus-1", ".config/upstart", ".gdbinit", ".config/gdb",
	}
}

// ProtectedNames are the places, relative to the home, that Protected is true of with all that lies below them.
func ProtectedNames() []string { return protected() }

// Protected reports whether a name of the home, relative to it, is never made or changed from inside: start-up files
// of shells and sessions, keys that let others in, units that run by themselves.
func Protected(rel string) bool {
	for _, p := range protected() {
		if rel == p || below(rel, p) {
			return true
		}
	}
	return false
}

// protectedBelow returns what is protected below a name of the home, relative to that name.
func protectedBelow(rel string) []string {
	var found []string
	for _, p := range protected() {
		if below(p, rel) {
			found = append(found, p[len(rel)+1:])
		}
	}
	return found
}
