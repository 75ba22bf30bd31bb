#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target of the module, FUZZTIME (20s) each.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$TOP"
find_go
targets=0
for package in $(go list ./... | grep -v /integration); do
  listed=$(go test -list '^Fuzz' "$package") || die "the tests of $package cannot be built: $listed"
  for target in $(grep '^Fuzz' <<<"$listed" || true); do
    say "$package $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-20s}" "$package"
    targets=$((targets + 1))
  done
done
[ "$targets" -gt 0 ] || die "no fuzz target was found"
say "$targets targets held"
