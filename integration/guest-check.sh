#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The checks of guest.sh; runs in its guest, as root in a service of systemd. Prints "ok NAME" or "FAILED NAME" and why for each
# check, and the counts as its last line.
#
# A check is a function, run in a shell of its own in which any command that fails ends it (set -e), in a new directory, and as
#   root     root, in a system service
#   session  ann, who has a systemd of her own (loginctl enable-linger), in a login session: a scope of root's systemd
#   service  ann, in a service of her own systemd
#   cron     ann, in a service of root's systemd, without her session's variables
#   bob      an ordinary user without a session
#   sudo     root, through sudo by ann in her session
set -euo pipefail

CHECKS="
  root/doctor root/groups root/memory root/pids root/ttl root/cpus_stay root/inside root/dry_run root/selftest root/core
  session/doctor session/groups session/memory session/pids session/inside session/record session/devices session/selftest
  service/groups cron/groups bob/refused bob/free sudo/identity sudo/groups
  cron/sudo_cpus_stay"

# Of the guest; each check as much again under load.
BOOT=120
CHECK=180

note() { echo "  $*" >&2; }
fail() { note "$*"; exit 1; }

# same and like compare a text; exits runs a command that must end with a code, and keeps its output in $out.
same() { [ "$1" = "$2" ] || fail "got '$1', want '$2'"; } # TEXT WANT
like() { grep -qE -- "$2" <<<"$1" || fail "'$1' has no '$2'"; } # TEXT REGEXP
unlike() { if grep -qE -- "$2" <<<"$1"; then fail "'$1' has '$2'"; fi; } # TEXT REGEXP
exits() { # CODE COMMAND...
  local want=$1 code=0
  shift
  out=$("$@" 2>&1) || code=$?
  [ "$code" = "$want" ] || fail "$*: exit $code, want $want: $out"
}

# JAIL is the command under test. Under sudo the log is still the invoking user's.
JAIL="agentjail run --quiet"
jail() { $JAIL "$@" </dev/null; }
logged() { like "$(agentjail log)" "$1"; } # REGEXP
unlogged() { unlike "$(agentjail log)" "$1"; }

# left lists the groups of runs; gone waits until there is none, for which systemd takes a moment.
left() { find /sys/fs/cgroup -type d -name 'agentjail-*'; }
gone() {
  for _ in {1..100}; do
    if [ -z "$(left)" ]; then return; fi
    sleep 0.2
  done
  fail "left: $(left)"
}

# holds runs a command with every limit and looks at its group from outside: the place, the files, who is in it.
holds() { # REGEXP of the place
  jail --memory 256MiB --pids 60 --cpus 0.5 -- sh -c \
    'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max >seen; touch started; until [ -e go ]; do sleep 0.2; done' &
  local run=$! dir
  until [ -e started ]; do
    kill -0 "$run" || fail "the run did not start"
    sleep 0.2
  done
  dir=$(left | tail -n 1) # the group itself, after what it is in
  like "$dir" "$1"
  same "$(cat "$dir/memory.max")" 268435456
  same "$(cat "$dir/pids.max")" 60
  same "$(cat "$dir/cpu.max")" "50000 100000"
  same "$(cat seen)" "$(printf '268435456\n50000 100000')"
  [ "$(wc -l <"$dir/cgroup.procs")" -ge 2 ] || fail "in the group: $(cat "$dir/cgroup.procs")"
  touch go
  wait "$run"
  gone
}

SLICE=/sys/fs/cgroup/system.slice
HERS=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service

root_groups() { holds "^$SLICE/agentjail-[0-9A-Z]+\.scope$"; }
session_groups() { holds "^$HERS/[a-z.]+/agentjail-[0-9A-Z]+\.scope$"; }
service_groups() { session_groups; }
cron_groups() { session_groups; }

# Under sudo the group is made by root, in a scope beside the session's.
sudo_groups() {
  JAIL="sudo agentjail run --quiet"
  holds "^/sys/fs/cgroup/user.slice/user-1000.slice/agentjail-[0-9A-Z]+\.scope/agentjail-[0-9A-Z]+$"
}

doctor() { # REGEXP of the limits
  exits 0 agentjail doctor
  like "$out" "^ok +limits +$1$"
  like "$out" '^agentjail run works here\.$'
  # What a kernel older than the newest does not have is named, and is less, not nothing.
  like "$out" '^(ok|weaker) +second layer +Landlock, ABI [0-9]+$'
}
root_doctor() { doctor 'cgroup v2, made by systemd'; }
session_doctor() { doctor "cgroup v2, made by systemd's user manager"; }

root_dry_run() {
  exits 0 agentjail run --dry-run --memory 1GiB --pids 9 -- true
  like "$out" 'memory 1073741824 bytes, processes 9,'
  gone
}

# A process that has no memory is killed, on record, and the rest of the run goes on: systemd ends a scope as a whole, unless told
# not to, and takes a moment for it.
root_memory() {
  local hog='head -c $1 /dev/zero | tail -n 1 >/dev/null; sleep 2; echo alive'
  exits 0 jail --memory 256MiB -- sh -c "$hog" - 30000000
  same "$out" alive
  unlogged limit.memory
  exits 0 jail --memory 64MiB -- sh -c "$hog" - 200000000
  like "$out" '^alive$'
  logged 'deny +limit.memory'
  exits 137 jail --memory 64MiB -- tail /dev/zero
  gone
}
session_memory() { root_memory; }

root_pids() {
  exits 0 jail --pids 400 -- /check/bin/probe fork 100
  like "$out" '^made 100'
  unlogged limit.pids
  exits 0 jail --pids 40 -- /check/bin/probe fork 100
  like "$out" '^made [1-3]?[0-9]:'
  logged 'deny +limit.pids'
  # The bomb ends with the command that threw it.
  exits 0 jail --pids 64 --ttl 60s -- bash -c ':() { : | : & }; { :; } 2>/dev/null & exec sleep 2'
  logged 'deny +limit.pids'
  gone
}
session_pids() { root_pids; }

root_ttl() {
  exits 124 jail --ttl 2s --pids 20 -- sleep 600
  gone
}

# systemd takes the controller of processors from a slice with the last unit that it knows to need it. In ann's own slice that is her
# systemd, which stays.
root_cpus_stay() { cpus_stay system.slice; }
cron_sudo_cpus_stay() {
  JAIL="sudo agentjail run --quiet"
  cpus_stay system.slice sudo
}
cpus_stay() { # SLICE [SUDO]
  ${2:-} systemd-run --quiet --unit=other --slice="$1" --property=CPUQuota=50% sleep 600
  jail --cpus 0.5 -- sh -c 'touch started; until [ -e go ]; do sleep 0.2; done' &
  local run=$!
  until [ -e started ]; do
    kill -0 "$run"
    sleep 0.2
  done
  ${2:-} systemctl stop other
  ${2:-} systemctl daemon-reload
  sleep 2
  same "$(cat "$(left | tail -n 1)/cpu.max")" "50000 100000"
  touch go
  wait "$run"
  gone
}

# The command sees its own group as the root of all, read-only, and nothing above it.
root_inside() {
  [ -e /sys/fs/cgroup/cgroup.procs ] || fail "the host has no cgroup.procs"
  exits 0 jail --pids 60 -- bash -c 'cut -d: -f3 /proc/self/cgroup
    find /sys/fs/cgroup -writable 2>/dev/null
    find /sys/fs/cgroup -mindepth 1 -type d
    for f in cgroup.procs pids.max memory.max cgroup.subtree_control; do
      (echo 1 >/sys/fs/cgroup/$f) 2>/dev/null && echo "wrote $f"
    done
    awk "\$3 ~ /cgroup/ { print \$2, substr(\$4, 1, 3), \$3 }" /proc/self/mounts
    unshare --cgroup true 2>/dev/null && echo "made a namespace"
    cat /sys/fs/cgroup/pids.max'
  same "$out" "$(printf '/\n/sys/fs/cgroup ro, cgroup2\n60')"
}
session_inside() { root_inside; }

# The host's handler of cores is not started for a crash in a run (N05); outside it is.
root_core() {
  local pattern=/proc/sys/kernel/core_pattern old
  old=$(cat $pattern)
  printf '#!/bin/sh\necho "$1" >>/handled\n' >/handler
  chmod 0755 /handler
  echo '|/handler %e' >$pattern
  exits 139 bash -c 'kill -SEGV $$'
  exits 139 jail -- bash -c 'ulimit -c 0; kill -SEGV $$'
  sleep 1
  echo "$old" >$pattern
  same "$(cat /handled)" bash
}

# Every probe of the selftest, on a kernel and a machine that need not be those of the other tests.
root_selftest() {
  exits 0 agentjail selftest
  like "$out" '^[0-9]+ held, 0 leaked, [0-9]+ not testable$'
}
session_selftest() { root_selftest; }

session_devices() {
  exits 0 jail -- sh -c 'echo $(ls -A /dev)'
  same "$out" 'fd full null ptmx pts random shm stderr stdin stdout tty urandom zero'
}

session_record() {
  mkdir -p ~/.ssh
  echo canary-of-ann >~/.ssh/id_guest
  echo readable >here
  exits 0 jail -- bash -c 'cat here; cat ~/.ssh/id_guest || :; : </dev/tcp/192.0.2.1/80 || :; touch made'
  like "$out" '^readable$'
  unlike "$out" canary
  [ -O made ] || fail "what the run made is not the user's"
  logged "deny +file/open-read +(/home/ann|~)/\.ssh/id_guest"
  logged 'deny +net/tcp.connect +192\.0\.2\.1:80'
  agentjail log --json >log
  exits 0 agentjail verify
  like "$out" '^ok: run '
  sed -i 's/id_guest/id_other/' log
  exits 1 agentjail verify ./log
}

# Without a systemd of the user's there is no group, and no run with fewer limits than it was asked for.
bob_refused() {
  local limit
  for limit in "--memory 1GiB" "--pids 40" "--cpus 0.5"; do
    exits 125 jail $limit -- touch started
    like "$out" 'loginctl enable-linger'
    [ ! -e started ] || fail "$limit: the command was started"
  done
}
bob_free() {
  exits 0 jail --ttl 60s -- sh -c 'touch started; id -un'
  same "$out" bob
  [ -O started ] || fail "the file is not bob's"
}

sudo_identity() {
  JAIL="sudo agentjail run --quiet"
  exits 0 jail --pids 40 -- sh -c 'id -un; touch made'
  same "$out" ann
  exits 0 jail --pids 40 -- /check/bin/probe fork 100
  like "$out" '^made [1-3]?[0-9]:'
  logged 'deny +limit.pids'
  same "$(find ~ ! -user ann)" ""
  gone
}

# one runs a check; it is this program again, as the check's user.
one() { # CHECK
  cd "$(mktemp -d ~/check.XXXXXX)"
  "${1/\//_}"
}

# as runs a command as one of those who are listed above.
as() { # WHO COMMAND
  case $1 in
    root) env -C /root HOME=/root bash -c "$2" ;;
    session | sudo) su - ann -c "$2" ;;
    service) su - ann -c "systemd-run --user --quiet --pipe --wait --collect $2" ;;
    cron) setpriv --reuid=1000 --regid=1000 --init-groups --reset-env bash -c "$2" ;;
    bob) setpriv --reuid=1001 --regid=1001 --init-groups --reset-env bash -c "$2" ;;
  esac
}

prepare() {
  install -m 0755 /check/bin/agentjail /usr/local/bin/
  loginctl enable-linger ann
  for _ in $(seq "$BOOT"); do
    [ ! -S /run/user/1000/bus ] || break
    sleep 1
  done
  echo "Linux $(uname -r), $(systemctl --version | head -n 1), up $(cut -d' ' -f1 /proc/uptime) s"
}

main() {
  local check passed=0 failed=0 wanted start
  wanted=$(sed -n 's/.*checks=\([^ ]*\).*/\1/p' /proc/cmdline)
  prepare
  for check in $CHECKS; do
    grep -qE -- "${wanted:-.}" <<<"$check" || continue
    start=$SECONDS
    if as "${check%%/*}" "timeout -k 5 $CHECK /check/guest-check.sh $check" </dev/null >/tmp/said 2>&1; then
      echo "ok $check ($((SECONDS - start)) s)"
      passed=$((passed + 1))
    else
      echo "FAILED $check ($((SECONDS - start)) s): $(tail -n 20 /tmp/said)"
      failed=$((failed + 1))
    fi
  done
  echo "$passed passed, $failed failed"
}

if [ $# = 0 ]; then main; else one "$1"; fi
