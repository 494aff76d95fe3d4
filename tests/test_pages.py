"""README and docs are run: their code, and the commands whose output they show.

Alone: pytest tests/test_pages.py. All commands, small: tests/readers. Whether each parses: tests/test_docs.py.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from probekit.exams import examine
from probekit.registry import MAPS
from tests.pages import WALKS, walk, words
from tests.test_docs import PAGES
from tests.test_hints import ROOT

LONGEST = 120
CODE = ("README.md", "docs/python.md", "docs/quickstart.md", "docs/tutorial-encoder.md")


@pytest.mark.parametrize("page", CODE)
def test_its_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first line to the last."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=6))  # seconds, not minutes
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)


@pytest.mark.usefixtures("plain_pictures", "few_strengths")
@pytest.mark.parametrize("pages", WALKS)
def test_what_a_page_shows_is_what_is_printed(
    pages: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words: no numbers, tables and verdicts."""
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=4))
    for page, command, shown, found in walk(pages, tmp_path):
        missing = set(words(shown)) - set(words(found))
        assert not missing, f"{page}, {command}; type: python -m tests.pages"


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "docs/log.md"])
def test_no_line_is_longer_than_a_window(page: str) -> None:
    """But for rows of tables, which cannot be broken."""
    rows = enumerate((ROOT / page).read_text().splitlines(), 1)
    assert [f"{page}:{n}" for n, line in rows if len(line) > LONGEST and not line.startswith("|")] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 95


def test_every_map_is_in_the_gallery() -> None:
    page = (ROOT / "docs/gallery.md").read_text()
    assert [name for name in MAPS if f"`{name.lstrip('-')}`" not in page] == []
