#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need and is missing, and makes the ordinary user they run as. Safe to call again and in parallel.
#   setup.sh [agents] [peers] [work] [collector]   also the agents from npm, the jails that make bench compares with, a project that it
#                                 installs from a cache, an OpenTelemetry collector
#   setup.sh tools                the tools alone
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Program and Debian package of each tool that a test calls.
TOOLS="gcc:gcc git:git curl:curl less:less make:make python3:python3 ip:iproute2 ps:procps sysctl:procps npm:npm node:nodejs unshare:util-linux
  ssh:openssh-client useradd:passwd sudo:sudo flock:util-linux bash:bash mkfs.btrfs:btrfs-progs wget:wget cargo:cargo"
PEERS="bwrap:bubblewrap runc:runc firejail:firejail rg:ripgrep socat:socat slirp4netns:slirp4netns pasta:passt tc:iproute2"

install_missing() { # PROGRAM:PACKAGE...
  local pair missing=()
  for pair in "$@"; do
    PATH=$CLEAN_PATH command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  # A static link needs the archive of the C library, which some images leave out.
  [ -n "$(find /usr/lib /usr/lib64 -name libc.a -print -quit 2>/dev/null)" ] || missing+=(libc6-dev)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  # Modules of the system's own python3: the filter is compared with one of libseccomp; the others are clients.
  local module
  for module in seccomp requests websockets; do
    /usr/bin/python3 -I -c "import $module" 2>/dev/null || missing+=("python3-$module")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "install these first: ${missing[*]}"
  say "installing ${missing[*]}"
  as_root apt-get update -q || { sleep 5; as_root apt-get update -q; }
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${missing[@]}"
}

make_user() {
  getent passwd "$TEST_USER" >/dev/null || as_root useradd --create-home --shell /bin/bash "$TEST_USER"
  as_root chmod 0755 "$TEST_HOME"
  # The run's root is a FUSE file system that its user mounts. Desktops open the device to all (udev's 50-udev-default.rules);
  # some CI machines leave it to root. This is the only setting of the host that the tests change.
  if [ -c /dev/fuse ]; then as_root chmod 0666 /dev/fuse; fi
}

npm_install() { # DIRECTORY of the cache, package.json
  local dir=$CACHE/$1
  as_user mkdir -p "$dir"
  if as_user cmp -s "$2" "$dir/stamp" 2>/dev/null || cmp -s "$2" "$dir/stamp"; then return 0; fi
  say "installing $1 from npm"
  as_user tee "$dir/package.json" <"$2" >/dev/null
  local options=()
  if [ "$1" = work ]; then options=(--cache "$dir/cache"); fi
  # The agents' install scripts only pick the binary of this platform.
  as_user npm install --prefix "$dir" --no-audit --no-fund --loglevel=error "${options[@]}" </dev/null
  as_user tee "$dir/stamp" <"$2" >/dev/null
}

# build_collector makes the collector of integration/collector, which takes minutes the first time. Without one its tests say so.
build_collector() {
  local from=$TOP/integration/collector
  if cat "$from/main.go" "$from/go.sum" | cmp -s - "$CACHE/collector.stamp" 2>/dev/null; then return 0; fi
  say "building an OpenTelemetry collector"
  local made
  made=$(mktemp -d)
  if (cd "$from" && go build -o "$made/collector" .); then
    cat "$from/main.go" "$from/go.sum" >"$made/collector.stamp"
    as_root mkdir -p "$CACHE"
    as_root install -m 0755 "$made/collector" "$CACHE/collector"
    as_root install -m 0644 "$made/collector.stamp" "$CACHE/collector.stamp"
  fi
  rm -rf "$made"
}

main() {
  find_go
  local tools
  read -ra tools -d '' <<<"$TOOLS" || true
  case " $* " in *" peers "*) local peers; read -ra peers <<<"$PEERS"; tools+=("${peers[@]}") ;; esac
  install_missing "${tools[@]}"
  if [ "$*" = tools ]; then return; fi
  make_user
  local what
  for what in "$@"; do
    case $what in
      collector) build_collector ;;
      *) npm_install "$what" "$TOP/integration/npm/$what.json" ;;
    esac
  done
}

# One at a time: two runs would both find the user missing.
if [ "$*" != tools ] && [ "${AGENTJAIL_SETUP_LOCKED:-}" = "" ] && command -v flock >/dev/null; then
  as_root touch /var/lib/agentjail-test.lock
  as_root chmod 0666 /var/lib/agentjail-test.lock
  AGENTJAIL_SETUP_LOCKED=1 exec flock /var/lib/agentjail-test.lock bash "${BASH_SOURCE[0]}" "$@"
fi
main "$@"
