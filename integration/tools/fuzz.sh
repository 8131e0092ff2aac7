#!/usr/bin/env bash
# Fuzzes every fuzz target of the module, one after the other.
set -euo pipefail
time=${1:?usage: fuzz.sh DURATION}
targets=0
for package in $(go list ./...); do
  dir=$(go list -f '{{.Dir}}' "$package")
  for name in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/^func //' | sort -u); do
    echo "fuzz $package $name"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$package"
    targets=$((targets + 1))
  done
done
echo "$targets fuzz targets, $time each"
[ "$targets" -gt 0 ]
