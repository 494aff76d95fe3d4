"""The table of mutants fits the tree as it is.

Alone: pytest tests/test_mutants.py
"""

import ast

from tests.mutants import ROOT, read_mutants


def test_every_mutant_stands_once_where_it_says_and_still_parses() -> None:
    wrong = []
    for mutant in read_mutants():
        text = (ROOT / mutant.file).read_text()
        if text.count(mutant.before) != 1 or mutant.after == mutant.before:
            wrong.append(f"{mutant.file}: {text.count(mutant.before)} times {mutant.before!r}")
        if mutant.file.endswith(".py"):
            ast.parse(text.replace(mutant.before, mutant.after))
    assert not wrong


def test_every_test_of_a_mutant_is_there() -> None:
    missing = []
    for mutant in read_mutants():
        assert mutant.tests, mutant
        for node in mutant.tests:
            file, *names = node.split("[")[0].split("::")
            path = ROOT / file
            if not path.is_file() or any(f"def {name}(" not in path.read_text() for name in names):
                missing.append(node)
    assert not missing
