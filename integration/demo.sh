#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run to watch: a command that works, that pries, and what the log says of it. Installs what is missing.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$TOP"
find_go
bash integration/setup.sh </dev/null >&2
make --no-print-directory build >&2
stage
as_root install -m 0755 bin/agentjail "$BASE/bin"
CLEAN_PATH=$BASE/bin:$CLEAN_PATH

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
  show "agentjail run -- curl -sS http://example.com/"
  show "agentjail run -- sh -c '\''id -un; touch /etc/cron.d/job; unshare -U true; ls /proc | grep -c ^[0-9]'\''"
  show "agentjail log --denied"
  show "agentjail verify"
'
as_user bash -c "$DEMO" bash "$BASE/user" </dev/null
