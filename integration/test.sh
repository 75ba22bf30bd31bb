#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The one test command.
#   test.sh                      everything
#   test.sh lint|unit            gofmt, vet, staticcheck | unit tests
#   test.sh integration [REGEXP] black-box tests whose names match, as an ordinary user and as root
# With AGENTJAIL_MUST_WORK=1 a black-box test that cannot run here fails instead of being skipped.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$TOP"

LOGS=$(mktemp -d)
FAILED=0

# record runs a command that prints go test -v lines, keeps them, and shows those that matter.
record() { # NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  say "$name"
  if "$@" >"$LOGS/$name.log" 2>&1 </dev/null; then
    grep -aE '^ *--- SKIP|^WARNING' "$LOGS/$name.log" || true
    say "$name: ok ($((SECONDS - start)) s)"
    return
  fi
  failures "$LOGS/$name.log" | tail -n 1500
  say "$name: FAILED ($((SECONDS - start)) s)"
  return 1
}

# failures shows of go test -v lines what tests said that failed, and what belongs to none.
failures() { # LOG
  LC_ALL=C awk '
    NR == FNR { if ($1 == "---" && $2 == "FAIL:") failed[$3]; next }
    $1 == "===" { show = $3 in failed; next }
    $1 == "---" { show = $2 == "FAIL:" }
    /^(panic:|fatal error:|WARNING: DATA RACE|# |FAIL)/ { show = 1 }
    show' "$1" "$1"
}

lint() {
  say lint
  local unformatted
  unformatted=$(gofmt -l $(git ls-files '*.go'))
  [ -z "$unformatted" ] || { printf 'gofmt: %s\n' $unformatted; FAILED=1; }
  go vet ./... || FAILED=1
  go tool staticcheck ./... || FAILED=1
}

# unit runs what goes through all of a large space once more at full length, without the race detector, which makes it ten times slower.
unit() {
  record unit env AGENTJAIL_MUST_WORK="${AGENTJAIL_MUST_WORK:-}" \
    go test -v -race -short -p 2 -timeout 10m $(go list ./... | grep -v '/integration$') || FAILED=1
  record unit-long env AGENTJAIL_MUST_WORK="${AGENTJAIL_MUST_WORK:-}" \
    go test -v -p 2 -timeout 10m -run 'Agree|EveryClause|MemoryFlat' ./seccomp ./sandbox/internal/denyfs || FAILED=1
}

integration() { # [REGEXP]
  bash integration/setup.sh agents
  make --no-print-directory build
  stage
  local tmp
  tmp=$(mktemp -d)
  CGO_ENABLED=0 go build -o "$tmp/probe" ./integration/probe
  go test -c -o "$tmp/integration.test" ./integration
  as_root install -m 0755 bin/agentjail "$tmp/probe" "$tmp/integration.test" "$BASE/bin"
  as_root install -m 0644 docs/events.schema.json "$BASE"
  as_root cp -r integration/testdata "$BASE/testdata"
  as_root chmod -R a+rX "$BASE/testdata"
  rm -rf "$tmp"
  # At the same time, and more tests than processors: most of them wait for something.
  local as running=()
  for as in user root; do
    record "integration-$as" run_as "$as" "${1:-.}" >"$LOGS/$as" &
    running+=("$as:$!")
  done
  for as in "${running[@]}"; do
    wait "${as#*:}" || FAILED=1
    cat "$LOGS/${as%:*}"
  done
}

# run_as runs the test binary inside the run's namespaces, with only what a test needs in its environment.
run_as() { # user|root REGEXP
  local env=() drop=()
  mapfile -t env < <(clean_env "$BASE/$1")
  env+=("AGENTJAIL_TEST_BASE=$BASE" "AGENTJAIL_TEST_CACHE=$CACHE" "AGENTJAIL_TEST_NET=1"
    "AGENTJAIL_TEST_USER=$(id -u "$TEST_USER"):$(id -g "$TEST_USER")" "TMPDIR=$BASE/$1")
  [ "$1" = root ] || drop=(setpriv --reuid="$TEST_USER" --regid="$TEST_USER" --init-groups --inh-caps=-all)
  enter sh -c 'cd "$0" && exec "$@"' "$BASE" env -i "${env[@]}" "${drop[@]}" \
    "$BASE/bin/integration.test" -test.v -test.parallel 3 -test.timeout 20m -test.run "$2"
}

# summary prints the counts, and fails a run that left out what it must show.
summary() {
  local passed failed skipped
  passed=$(cat "$LOGS"/*.log 2>/dev/null | grep -acE '^ *--- PASS' || true)
  failed=$(cat "$LOGS"/*.log 2>/dev/null | grep -acE '^ *--- FAIL' || true)
  skipped=$(cat "$LOGS"/*.log 2>/dev/null | grep -acE '^ *--- SKIP' || true)
  if [ -n "${AGENTJAIL_MUST_WORK:-}" ] && grep -ahE '^ *--- SKIP: .*/[A-Z][0-9]{2}' "$LOGS"/integration-*.log 2>/dev/null; then
    say "a check that must run was skipped"
    FAILED=1
  fi
  [ "$FAILED" = 0 ] || [ "$failed" -gt 0 ] || failed=1
  # Last, so that a reader of the end alone knows what to look for.
  grep -ahE '^ *--- FAIL' "$LOGS"/*.log 2>/dev/null || true
  rm -rf "$LOGS"
  printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
  exit "$FAILED"
}

find_go
case "${1:-all}" in
  lint) lint ;;
  unit) unit ;;
  integration) integration "${2:-}" ;;
  all)
    bash integration/setup.sh
    lint
    unit
    integration
    ;;
  *) die "usage: test.sh [lint|unit|integration [REGEXP]]" ;;
esac
summary
