"""All that the commands write and print is what kept/ holds, but for digits, times and versions.

Alone: pytest tests/guard. What differs on purpose: python -m tests.guard --keep
"""

from pathlib import Path

from tests.guard.walk import masked, walk

KEPT = Path(__file__).parent / "kept"


def test_what_is_written_and_printed_is_what_was_kept(tmp_path: Path) -> None:
    found = {name: masked(name, text).splitlines() for name, text in walk(tmp_path.resolve()).items()}
    assert sorted(found) == sorted(path.stem for path in KEPT.iterdir())
    for name, lines in found.items():
        assert lines == (KEPT / f"{name}.txt").read_text().splitlines(), name
