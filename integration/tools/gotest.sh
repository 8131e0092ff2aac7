#!/usr/bin/env bash
# Runs go test -race and fails if a test failed, or was skipped: a skipped
# test is a check that nobody made. So is a package that has tests and ran none.
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
go test -race -timeout 10m -json "$@" >"$log" || status=$?
python3 - "$log" <<'PY' || status=1
import collections, json, sys

output = collections.defaultdict(list)
counts, ran, skipped, failed, packages = collections.Counter(), set(), [], [], []
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    try:
        event = json.loads(line)
    except ValueError:
        print(line, end="")
        continue
    package, test, action = event.get("Package", event.get("ImportPath", "")), event.get("Test"), event["Action"]
    if action in ("output", "build-output"):
        output[package, test].append(event["Output"])
        continue
    if action not in ("pass", "fail", "skip"):
        continue
    if test is None:
        if action != "skip":  # skip: a package without tests
            packages.append((action, package, event.get("Elapsed", 0)))
        if action == "fail":
            print("".join(output[package, None]), end="")
            print("".join(output[event.get("FailedBuild", ""), None]), end="")
        continue
    counts[action] += 1
    ran.add(package)
    if action == "fail":
        failed.append((package, test))
        print("".join(output[package, test]), end="")
    elif action == "skip":
        skipped.append((package, test))
        print("".join(output[package, test]), end="")
for action, package, seconds in packages:
    print(f"{action}\t{package}\t{seconds:.1f}s")
for package, test in failed:
    print(f"FAILED {package} {test}")
for package, test in skipped:
    print(f"SKIPPED {package} {test}: nothing may be skipped here")
empty = [package for action, package, _ in packages if action == "pass" and package not in ran]
for package in empty:
    print(f"EMPTY {package}: it has test files and ran no test")
print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
sys.exit(1 if failed or skipped or empty or not counts["pass"] else 0)
PY
exit "$status"
