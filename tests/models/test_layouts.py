"""Every layout of weights, in the project's own names, against the project's own features.

Alone: pytest tests/models/test_layouts.py
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from probekit.models.checkpoint import without_wrappers
from probekit.models.layouts import LAYOUTS
from tests.models.foreign.compared import CLOSE, Compared, compared, documented, rows
from tests.models.foreign.table import FOREIGN

pytest.importorskip("timm")
FOUND: dict[str, Compared] = {}


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize("name", FOREIGN)
def test_weights_are_whole_and_features_are_theirs(name: str, tmp_path: Path) -> None:
    FOUND[name] = found = compared(FOREIGN[name].make(tmp_path))
    assert (found.match.matched, found.match.mark) == (found.match.total, "")
    assert found.difference < CLOSE
    assert without_wrappers(FOREIGN[name].example) in found.names


def test_a_quantised_part_is_not_hidden_by_those_that_it_is_joined_with(tmp_path: Path) -> None:
    case = FOREIGN["Hugging Face ViT"].make(tmp_path)
    tensors = load_file(case.path / "model.safetensors")
    name = next(name for name in tensors if name.endswith("query.weight"))
    save_file(tensors | {name: tensors[name].to(torch.int8)}, case.path / "model.safetensors")
    with pytest.raises(ValueError, match=r"of another shape: blocks\.0\.attn\.qkv\.weight \(int8 for float32\)"):
        compared(case)


all_of_them = pytest.mark.skipif("len(FOUND) < len(FOREIGN)", reason="the tests above were not all run")


@all_of_them
def test_the_table_in_the_docs_is_of_these_tests() -> None:
    """Differences are of the machine: at most ten times what is said."""
    said, made = documented(), rows(FOUND)
    assert [[*row[:4], row[5]] for row in said] == [[*row[:4], row[5]] for row in made], (
        "type: python -m tests.models.foreign.compared"
    )
    for row, found in zip(said, FOUND.values(), strict=True):
        assert found.difference <= 10 * float(row[4].removeprefix("below "))


@all_of_them
def test_every_layout_is_tested() -> None:
    assert {found.match.layout for found in FOUND.values()} == {layout.project for layout in LAYOUTS}
