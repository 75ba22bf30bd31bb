#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run to watch: a command that works, that pries, and what the log says of it. Installs what is missing.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$TOP"
find_go
if [ "$(id -u)" = 0 ]; then
  bash integration/setup.sh </dev/null >&2
  make --no-print-directory build >&2
  stage
  install -m 0755 bin/agentjail "$BASE/bin"
  CLEAN_PATH=$BASE/bin:$CLEAN_PATH
  show_as=(as_user)
else
  # As whoever calls it: root is needed for what is missing alone.
  bash integration/setup.sh tools </dev/null >&2
  make --no-print-directory build >&2
  BASE=$(mktemp -d "$HOME/agentjail-demo.XXXXXXXX")
  trap 'rm -rf "$BASE"' EXIT
  mkdir "$BASE/user"
  show_as=(env -i "PATH=$TOP/bin:$CLEAN_PATH" LANG=C.UTF-8)
fi

DEMO='
  cd "$1"
  export HOME=$1/home XDG_STATE_HOME=$1/state
  mkdir -p home/.ssh home/project
  echo "-----BEGIN OPENSSH PRIVATE KEY-----" >home/.ssh/id_ed25519
  cd home/project
  git -c init.defaultBranch=main init -q
  show() { printf "\n\$ %s\n" "$1"; sh -c "$1" || true; }
  show "cat ~/.ssh/id_ed25519"
  show "agentjail run -- cat ~/.ssh/id_ed25519"
  show "agentjail run -- sh -c '\''echo hello >note.txt; git add note.txt; git status --short'\''"
  show "agentjail run -- sh -c '\''echo evil >.git/hooks/pre-commit; mkdir .vscode; echo all: >Makefile'\''"
  show "agentjail run -- curl -sS http://example.com/"
  show "agentjail run -- sh -c '\''id -un; touch /etc/cron.d/job; unshare -U true; ls /proc | grep -c ^[0-9]'\''"
  show "agentjail log --denied"
  show "agentjail verify"
'
"${show_as[@]}" bash -c "$DEMO" bash "$BASE/user" </dev/null
