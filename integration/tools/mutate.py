#!/usr/bin/env python3
"""Deletes one check at a time and sees whether a test notices.

usage: mutate.py FOLDER TESTS...

A check is an `if` or a `case` of a switch without a tag whose first statement
returns. It is deleted by making its condition false. FOLDER is searched for
checks in a scratch copy of the module; TESTS are the packages whose tests must
fail. Prints each survivor and the score, and fails if there is one that is not
in integration/tools/survivors.txt, which gives a reason for each.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

IF = re.compile(r"^(\s*)((?:\} else )?if )((?:[^;{]+; )?)([^;{]+) \{$")
CASE = re.compile(r"^(\s*)case ([^:]+):$")


def checks(text):
    """Yields line numbers and what the line becomes."""
    lines = text.split("\n")
    switches = []  # whether each open switch has no tag, by indentation
    for n, line in enumerate(lines):
        m = re.match(r"^(\t*)switch(.*)\{$", line)
        if m:
            head = m.group(2).strip()
            switches.append((len(m.group(1)), head == "" or head.endswith(";")))
        following = lines[n + 1].strip() if n + 1 < len(lines) else ""
        if not following.startswith("return"):
            continue
        m = IF.match(line)
        if m:
            yield n, f"{m.group(1)}{m.group(2)}{m.group(3)}false && ({m.group(4)}) {{"
            continue
        m = CASE.match(line)
        if m and m.group(2) != "default":
            tagless = [t for depth, t in switches if depth == len(m.group(1))]
            if tagless and tagless[-1] and "," not in m.group(2):
                yield n, f"{m.group(1)}case false && ({m.group(2)}):"


def main():
    folder, tests = sys.argv[1], sys.argv[2:]
    top = pathlib.Path(__file__).resolve().parents[2]
    known = {}
    for line in (top / "integration/tools/survivors.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            key, _, reason = line.partition(" | ")
            known[key.strip()] = reason
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / "module"
        shutil.copytree(top, copy, ignore=shutil.ignore_patterns(".git", ".tools", "bin"))
        command = ["go", "test", "-count=1", "-failfast", "-timeout=120s", *tests]
        before = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if before.returncode:
            sys.exit("the tests fail without any change:\n" + before.stdout + before.stderr)
        total, survivors, unexplained = 0, [], []
        for path in sorted((copy / folder).glob("*.go")):
            if path.name.endswith("_test.go"):
                continue
            text = path.read_text()
            lines = text.split("\n")
            for n, changed in checks(text):
                mutant = lines.copy()
                mutant[n] = changed
                path.write_text("\n".join(mutant))
                name = path.relative_to(copy)
                build = subprocess.run(["go", "vet", "-unreachable=false", "./" + str(name.parent)], cwd=copy, capture_output=True)
                if b"declared and not used" in build.stderr or b"imported and not used" in build.stderr:
                    continue  # the compiler notices
                total += 1
                if subprocess.run(command, cwd=copy, capture_output=True).returncode == 0:
                    key = f"{name}: {lines[n].strip()}"
                    survivors.append(key)
                    reason = known.get(key)
                    if reason is None:
                        unexplained.append(key)
                    print(f"survived {name}:{n + 1}: {lines[n].strip()} ({reason or 'no reason known'})", flush=True)
            path.write_text(text)
    print(f"{total} checks deleted one by one, {total - len(survivors)} noticed, {len(survivors)} survived")
    sys.exit(1 if unexplained or not total else 0)


if __name__ == "__main__":
    main()
