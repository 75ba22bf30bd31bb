# SPDX-License-Identifier: Apache-2.0
# Functions of the test, bench and demo scripts. Sourced, not run.
#
# The tests change two things of the host, both in setup.sh: packages that are missing, and the user agentjail-test.
# Names and addresses for network tests exist only in a network and mount namespace of the run (see enter).

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TEST_USER=agentjail-test
TEST_HOME=/home/$TEST_USER
# Where agents and peers from npm are kept between runs: outside the clone, owned by the test user.
CACHE=$TEST_HOME/.cache/agentjail-test
# What a login shell would have, whatever the caller's PATH: the test user cannot see a toolchain below /root.
CLEAN_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Nothing below depends on the caller's HOME, but Go's caches do.
if [ -z "${HOME:-}" ]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
  export HOME
fi

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || die "root is needed to run: $*; install sudo or call this as root"
  sudo "$@"
}

# find_go puts the Go toolchain on CLEAN_PATH, so that the tests of the user find the same one.
find_go() {
  command -v go >/dev/null || die "Go is missing: https://go.dev/doc/install"
  local root
  root=$(go env GOROOT)
  CLEAN_PATH=$CLEAN_PATH:$root/bin
}

# clean_env prints the environment of a test process, one assignment a line: the CA files of the machine and no more.
clean_env() { # HOME
  printf '%s\n' "HOME=$1" "PATH=$CLEAN_PATH" "LANG=C.UTF-8"
  local name
  for name in SSL_CERT_FILE SSL_CERT_DIR NODE_EXTRA_CA_CERTS CURL_CA_BUNDLE GIT_SSL_CAINFO \
    CI AGENTJAIL_MUST_WORK AGENTJAIL_STRESS; do
    [ -z "${!name:-}" ] || printf '%s=%s\n' "$name" "${!name}"
  done
}

# as_user runs a command as the ordinary user, with a clean environment.
as_user() {
  local env=()
  mapfile -t env < <(clean_env "$TEST_HOME")
  as_root env -i "${env[@]}" setpriv --reuid="$TEST_USER" --regid="$TEST_USER" --init-groups \
    --inh-caps=-all "$@"
}

# stage makes BASE, a directory that every user can reach: the clone may lie below one that only root can enter.
# It is not below /tmp or /var/tmp, which a run replaces: a home there would not be looked up in the host's tree.
stage() {
  BASE=$(as_root mktemp -d /var/lib/agentjail-test.XXXXXXXX)
  trap cleanup EXIT
  as_root chmod 0755 "$BASE"
  as_root mkdir "$BASE/bin" "$BASE/root" "$BASE/user"
  as_root chmod 0711 "$BASE/root" "$BASE/user"
  as_root chown "$TEST_USER:" "$BASE/user"
}

cleanup() { as_root rm -rf --one-file-system "$BASE"; }

# enter runs a command in a network and a mount namespace of its own, in which the test's names and public addresses are
# this machine's own: lo carries them, and the resolver is a server of the test. The host's stay as they are.
ENTER='
  ip link set lo up
  for a in 5.6.7.8 5.6.7.9 5.6.7.10 10.11.12.13 169.254.169.254; do ip route add local $a/32 dev lo; done
  for a in 2a00:5678::8 2a00:5678::9; do ip -6 route add local $a/128 dev lo; done
  sysctl -qw net.ipv4.ip_unprivileged_port_start=0 net.ipv6.ip_nonlocal_bind=1
  printf "nameserver 127.0.0.1\noptions timeout:2\n" >"$0/resolv.conf"
  mount --bind "$0/resolv.conf" /etc/resolv.conf
  export AGENTJAIL_TEST_NET=1
  exec "$@"'
enter() { as_root unshare --mount --net sh -euc "$ENTER" "$BASE" "$@"; }
