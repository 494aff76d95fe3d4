"""The code of docs/python.md and README, run from the first line to the last.

Alone: pytest tests/api/test_docs.py
"""

import re
from pathlib import Path
from typing import Any

import pytest

from probekit.exams import examine

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("page", ["docs/python.md", "README.md"])
def test_its_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=6))  # seconds, not minutes
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
