#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ratios against the bare command and other jails, in one interleaved run, as an ordinary user.
#   bench.sh [start|work|calls|log|memory|net]...
#   bench.sh work:NAME      what of the work has the name in its own
#   BENCH_BYTES=N           bytes of a transfer over the network (2 GiB)
#   BENCH_ROUNDS=N          how often each variant of the work and of the network is measured, instead of its own number
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$TOP"
find_go
bash integration/setup.sh peers work </dev/null >&2
make --no-print-directory build >&2
stage
tmp=$(mktemp -d)
CGO_ENABLED=0 go build -o "$tmp/bench" ./integration/bench
CGO_ENABLED=0 go build -o "$tmp/probe" ./integration/probe
as_root install -m 0755 bin/agentjail "$tmp/bench" "$tmp/probe" "$BASE/bin"
rm -rf "$tmp"

CLEAN_PATH=$BASE/bin:$CLEAN_PATH
# The state is beside the working directory: no run may see it.
as_user mkdir "$BASE/user/project"
as_bench() { # COMMAND...
  as_user env BENCH_PEERS="$CACHE/peers" BENCH_PACKAGES="$CACHE/work" BENCH_ROUNDS="${BENCH_ROUNDS:-}" XDG_STATE_HOME="$BASE/user/state" TMPDIR="$BASE/user/project" \
    sh -c 'cd "$TMPDIR" && exec "$@"' sh "$@" </dev/null
}

[ $# -gt 0 ] || set -- start work calls log memory net
for what in "$@"; do
  case "$what" in
    memory)
      as_root env -i PATH="$CLEAN_PATH" HOME="$TEST_HOME" XDG_STATE_HOME="$BASE/user/state" \
        BENCH_USER="$(id -u "$TEST_USER"):$(id -g "$TEST_USER")" sh -c 'cd "$0" && exec bench memory' "$BASE/user/project"
      ;;
    work:*) as_bench bench work "${what#work:}" ;;
    net)
      # Its names and addresses, and the shape of its link, are those of a namespace.
      enter env -i PATH="$CLEAN_PATH" HOME="$TEST_HOME" XDG_STATE_HOME="$BASE/user/state" TMPDIR="$BASE/user/project" BENCH_PEERS="$CACHE/peers" \
        BENCH_BYTES="${BENCH_BYTES:-}" BENCH_ROUNDS="${BENCH_ROUNDS:-}" BENCH_USER="$(id -u "$TEST_USER"):$(id -g "$TEST_USER")" \
        sh -c 'cd "$0" && exec bench net' "$BASE/user/project" </dev/null
      ;;
    log)
      echo "events into the log, the chain, and logs of a million denials"
      go test ./internal/audit -run '^$' -bench 'Encode|Chain|Log|Flood' | grep ^Benchmark | sed 's/^/  /'
      ;;
    calls)
      as_bench bench calls
      echo "instructions of the filter for frequent calls"
      go test ./seccomp -run TestCost -v | sed -n 's/^ *cost_test.go:[0-9]*: /  /p'
      ;;
    *) as_bench bench "$what" ;;
  esac
done
echo "where the time of one start goes"
as_bench env AGENTJAIL_TRACE=1 agentjail run --quiet -- /bin/true 2>&1 | sed 's/^/  /'
