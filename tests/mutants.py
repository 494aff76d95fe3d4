"""Faults by hand, one at a time, each in a copy of the tree: the tests that it names must fail (tests/mutants.toml).

`python -m tests.mutants` makes all and prints the table; `python -m tests.mutants views losses` those with one of these
words in the names of their file or tests.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.forked import SERVER

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).with_suffix(".toml")
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "runs", "build")
PASSED, FAILED = 0, 1  # pytest's exit codes; every other one is a table that is wrong


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        file: What it is in, from the root of the tree.
        before: What stands there, exactly once.
        after: What takes its place.
        tests: Files or nodes of pytest, of which at least one must fail.
    """

    file: str
    before: str
    after: str
    tests: tuple[str, ...]


def read_mutants() -> list[Mutant]:
    """All that the table holds, in its order."""
    entries = tomllib.loads(TABLE.read_text())["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def run_tests(tree: Path, tests: Sequence[str], *, shown: bool = False) -> int:
    """Runs tests in a tree up to the first failure, and returns pytest's exit code; its output may be shown."""
    process = SERVER.Process(target=_run_here, args=(tree, tests, shown))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run_here(tree: Path, tests: Sequence[str], shown: bool) -> None:
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.modules.pop("tests")  # that of this tree
    os.environ |= {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    if not shown:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(pytest.main(["-x", "-p", "no:cacheprovider", "--timeout=120", *tests]))


@contextmanager
def applied(mutant: Mutant, tree: Path) -> Iterator[None]:
    """Puts the fault into a tree for a while."""
    path = tree / mutant.file
    sound = path.read_text()
    assert sound.count(mutant.before) == 1, mutant
    try:
        _write(path, sound.replace(mutant.before, mutant.after))
        yield
    finally:
        _write(path, sound)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    # Python takes compiled files for current by second and length, which a mutant may share.
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


def verdict(mutant: Mutant, tree: Path) -> str:
    """What became of a mutant in a tree, "killed" or "SURVIVED"."""
    with applied(mutant, tree):
        code = run_tests(tree, mutant.tests)
    assert code in (PASSED, FAILED), f"pytest ended with {code}: {mutant}"
    return "SURVIVED" if code == PASSED else "killed"


def main() -> None:
    """Makes the mutants, prints a table in Markdown, and exits with 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants with one of these in their file's or tests' names")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    options = parser.parse_args()
    mutants = [
        m for m in read_mutants() if not options.words or any(w in " ".join((m.file, *m.tests)) for w in options.words)
    ]
    with tempfile.TemporaryDirectory() as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for job in range(options.jobs):
            tree = Path(folder) / str(job)
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
            trees.put(tree)
        if run_tests(tree, sorted({test for mutant in mutants for test in mutant.tests}), shown=True) != PASSED:
            sys.exit("expected the tests of the mutants to pass without them; type: make test")

        def timed(mutant: Mutant) -> tuple[str, float]:
            tree, started = trees.get(), time.monotonic()
            try:
                return verdict(mutant, tree), time.monotonic() - started
            finally:
                trees.put(tree)

        survivors = 0
        print("| file | before | after | | s |\n|---|---|---|---|---|")
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, (found, seconds) in zip(mutants, pool.map(timed, mutants), strict=True):
                survivors += found != "killed"
                before, after = (
                    f"`{' '.join(text.split()).replace('|', chr(92) + '|')}`" for text in (mutant.before, mutant.after)
                )
                print(f"| {mutant.file} | {before} | {after} | {found} | {seconds:.0f} |", flush=True)
    print(f"\n{len(mutants) - survivors} of {len(mutants)} killed")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
