#!/usr/bin/env python3
"""Deletes one check at a time and sees whether a test notices.

usage: mutate.py [-v] FOLDER TESTS...

FOLDER is one package. Its checks are

  - the condition of each `if`, and of each `case` of a switch without a tag:
    deleted, it is false;
  - each operand of `||` and `&&` in a condition, and in what is returned or
    assigned: deleted, the others decide;
  - each `<`, `<=`, `>` and `>=` in those: where both sides are equal, it says
    the opposite;
  - each text in a `case` of a switch, and in a list of texts: deleted, it is
    not there.

All of them are woven into one scratch copy of the module, each behind a number
of its own, so that the tests are compiled once and run once a number. TESTS are
the packages whose tests must fail then; a crash and a timeout count as failures.
-v also says which test noticed a deletion.

Survivors are listed in survivors.txt beside this file, each with the reason, as
`FILE FUNCTION: CHECK | REASON`. No line number takes part in that; the second
of two equal checks in one function ends in ` #2`. It is a failure when a check
without a reason survives, and when one with a reason does not.
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
KNOWN = TOP / "integration/tools/survivors.txt"

# What checks become. deletedCheck is the number of the one that is not there.
HELPERS = """package %s

import (
	"os"
	"slices"
	"strconv"
)

var deletedCheck, _ = strconv.Atoi(os.Getenv("DELETED_CHECK"))

func checkThere(n int) bool { return n != deletedCheck }

func checkText[S ~string](n int, s S) S {
	if n == deletedCheck {
		return s + "\\x00"
	}
	return s
}

func checkList(n int, texts ...string) []string {
	if i := deletedCheck - n; 0 <= i && i < len(texts) {
		return slices.Delete(texts, i, i+1)
	}
	return texts
}
"""


def outside(code):
    """Yields the positions in a line that are in no bracket and no literal."""
    depth, quote, i = 0, "", 0
    while i < len(code):
        c = code[i]
        if quote:
            if c == "\\" and quote != "`":
                i += 1
            elif c == quote:
                quote = ""
        elif c in "\"'`":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif depth == 0:
            yield i
        i += 1


def split(code, separator):
    """Splits where the separator is in no bracket and no literal."""
    parts, start = [], 0
    for i in outside(code):
        if i >= start and code.startswith(separator, i):
            parts.append(code[start:i])
            start = i + len(separator)
    return parts + [code[start:]]


class Package:
    """The files of a package with their checks woven in."""

    def __init__(self):
        self.checks = []  # keys, by number less one
        self.seen = {}
        self.place = ""  # file and function

    def number(self, check):
        key = f"{self.place}: {check}"
        self.seen[key] = self.seen.get(key, 0) + 1
        self.checks.append(key if self.seen[key] == 1 else f"{key} #{self.seen[key]}")
        return len(self.checks)

    def chain(self, code, whole):
        """Weaves in the operands of a condition, and those within them."""
        for op in ("||", "&&"):
            operands = split(code, f" {op} ")
            if len(operands) == 1:
                continue
            woven = []
            for operand in operands:
                n = self.number(f"{whole} [without {operand}]")
                inner = self.chain(operand, whole)
                woven.append(f"(!checkThere({n}) || {inner})" if op == "&&" else f"(checkThere({n}) && ({inner}))")
            return f"({f' {op} '.join(woven)})"
        if code.startswith("(") and code.endswith(")") and not list(outside(code)):
            return self.chain(code[1:-1], whole)
        for op in ("<", "<=", ">", ">="):
            sides = split(code, f" {op} ")
            if len(sides) == 2:
                n = self.number(f"{whole} [{code} where equal]")
                return f"(({code}) != (!checkThere({n}) && {sides[0]} == {sides[1]}))"
        return code

    def condition(self, code):
        return f"checkThere({self.number(code)}) && {self.chain(code, code)}"

    def line(self, code, tagless):
        """Weaves in the checks of one line. tagless: a case is a condition."""
        if m := re.match(r"(\s*(?:\} else )?if )(.*)( \{(?: //.*)?)$", code):
            init = split(m[2], "; ")
            return m[1] + "; ".join(init[:-1] + [self.condition(init[-1])]) + m[3]
        if m := re.match(r"(\s*case )(.*?)(:(?: //.*)?)$", code):
            values = split(m[2], ", ")
            if tagless:
                return m[1] + ", ".join(self.condition(v) for v in values) + m[3]
            if all(re.fullmatch(r'"[^"]*"', v) for v in values):
                return m[1] + ", ".join(f"checkText({self.number('case ' + v)}, {v})" for v in values) + m[3]
        elif m := re.match(r"(.*\breturn |\s*(?!for )[\w., ]+ :?= )(.*?)((?: \}.*)?(?: //.*)?)$", code):
            return m[1] + ", ".join(self.chain(v, v) for v in split(m[2], ", ")) + m[3]
        return code

    def lists(self, code):
        """Weaves in the lists of texts, which may go over lines."""
        def weave(m):
            texts = re.findall(r'"[^"]*"', m[1])
            if not texts or re.sub(r'"[^"]*"|[\s,]', "", m[1]):
                return m[0]
            self.locate(code[:m.start()])
            numbers = [self.number("list " + t) for t in texts]
            return f"checkList({numbers[0]}, {m[1]})"
        return re.sub(r"\[\]string\{([^{}]*)\}", weave, code)

    def locate(self, before):
        found = re.findall(r"^(?:func (?:\([^)]*\) )?|var )(\w+)", before, re.M)
        self.place = f"{self.file} {found[-1] if found else '-'}"

    def weave(self, file, code):
        self.file = file
        switches = {}  # whether the last switch at an indentation has no tag
        lines = code.split("\n")
        for n, line in enumerate(lines):
            self.locate("\n".join(lines[:n + 1]))
            if m := re.match(r"(\t*)(?:switch|select)\b(.*)\{$", line):
                head = m[2].strip()
                switches[m[1]] = "switch" in line and (head == "" or head.endswith(";"))
            lines[n] = self.line(line, switches.get(re.match(r"\t*", line)[0]))
        return self.lists("\n".join(lines))


def known(folder):
    """Returns the reasons for survivors in a folder, by key."""
    reasons = {}
    for line in KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            key, _, reason = line.rpartition(" | ")
            if str(pathlib.Path(key.split(" ")[0]).parent) == folder:
                reasons[key] = reason
    return reasons


def main(folder, tests, verbose):
    folder = str(pathlib.Path(folder))
    reasons = known(folder)
    with tempfile.TemporaryDirectory() as scratch:
        copy, binaries = pathlib.Path(scratch) / "module", pathlib.Path(scratch) / "tests"
        shutil.copytree(TOP, copy, ignore=shutil.ignore_patterns(".git", ".tools", "bin"))
        package = Package()
        for path in sorted((copy / folder).glob("*.go")):
            if not path.name.endswith("_test.go"):
                code = path.read_text()
                path.write_text(package.weave(str(path.relative_to(copy)), code))
        name = re.search(r"^package (\w+)", code, re.M)[1]
        (copy / folder / "deletedcheck.go").write_text(HELPERS % name)
        suites = []
        for n, test in enumerate(tests):
            binary = binaries / str(n)
            subprocess.run(["go", "test", "-c", "-vet=off", "-o", str(binary), test], cwd=copy, check=True)
            suites.append((copy / test, binary))

        hints = {}  # the test that noticed the last deletion, by suite: it is asked first

        def run(n, limit):
            """Returns what noticed that a check is not there, if anything did."""
            env = os.environ | {"DELETED_CHECK": str(n)}
            for where, binary in suites:
                for only in dict.fromkeys([hints.get(binary), None]):
                    command = [str(binary), "-test.failfast", f"-test.timeout={limit}s"]
                    if only:
                        command.append(f"-test.run=^{only}$")
                    got = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, errors="replace")
                    if got.returncode:
                        out = got.stdout + got.stderr
                        if m := re.search(r"^--- FAIL: (\w+)", out, re.M):
                            hints[binary] = m[1]
                        m = re.search(r"^panic: .*|^--- FAIL: \w+", out, re.M)
                        return m[0] if m else out[-200:]
            return None

        start = time.monotonic()
        if noticed := run(0, 600):
            sys.exit(f"the tests fail without any deletion: {noticed}")
        limit = 30 + 5 * round(time.monotonic() - start)
        survivors = set()
        with concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool:  # tests wait more than they compute
            results = pool.map(lambda n: run(n, limit), range(1, len(package.checks) + 1))
            for key, noticed in zip(package.checks, results):
                if noticed is None:
                    survivors.add(key)
                    print(f"survives: {key} | {reasons.get(key, 'NO REASON KNOWN')}", flush=True)
                elif verbose:
                    print(f"killed: {key} | {noticed}", flush=True)

    bad = False
    for key in sorted(reasons.keys() - survivors):
        print(f"has a reason in {KNOWN.name}, and does not survive: {key}")
        bad = True
    without = len(survivors - reasons.keys())
    total = len(package.checks)
    print(f"{folder}: {total} checks, {total - len(survivors)} killed, {len(survivors)} survive, "
          + (f"{without} of them without a reason" if without else "all with reasons"))
    sys.exit(1 if bad or without or not total else 0)


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "-v"]
    if len(arguments) < 2:
        sys.exit(__doc__)
    main(arguments[0], arguments[1:], "-v" in sys.argv)
