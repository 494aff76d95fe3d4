"""Every notebook runs in a fresh kernel, its numbers are those that are told, and its file is small and clean.

Alone: pytest tests/notebooks; `python -m tests.notebooks` keeps what they show now.
"""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebooks.run import FOLDER, NAMES, clean, read, run

MOST = 2_000_000  # bytes of all
# What each is asked at its end, in its own kernel.
ASKED = {
    "exam": "{'mean': mean.sentences[0], 'network': list(sharp.scores)}",
    "probe": "{'linear': scores['linear'].value, 'chance': rows['chance'], 'patches': rows['patch bag']}",
    "heatmap": "{'edges': edges, 'evidence': float(evidence[changed].mean()), 'depth': deep.name}",
    "generator": "{'first': read_from(first, 'bounding box'), 'second': read_from(second, 'bounding box')}",
}


def asked(name: str, folder: Path) -> dict[str, Any]:
    """Runs it, and gives what it is asked."""
    book = read(name)
    last = f"import json\nprint('ASKED', json.dumps({ASKED[name]}))"
    book.cells.append(nbformat.v4.new_code_cell(last))
    found = run(book, folder).cells[-1].outputs[0]["text"]
    told: dict[str, Any] = json.loads(found.removeprefix("ASKED "))
    return told


def test_an_exam_of_your_own_network(tmp_path: Path) -> None:
    told = asked("exam", tmp_path)
    assert "not even at 4.0 px" in told["mean"], "of the mean nobody can tell the side"
    assert told["network"]
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def test_a_probe_with_honest_baselines(tmp_path: Path) -> None:
    told = asked("probe", tmp_path)
    assert told["chance"] == 0.25
    assert told["patches"] > 0.85, "the evidence is local"
    assert told["linear"] < told["patches"]


def test_a_heatmap_against_the_truth(tmp_path: Path) -> None:
    told = asked("heatmap", tmp_path)
    assert told["evidence"] == 1.0, "evidence is what differs from the counterfactual"
    assert 0.85 < told["edges"] < 0.95
    assert told["depth"] == "map-depth"


def test_a_new_generator_in_40_lines(tmp_path: Path) -> None:
    told = asked("generator", tmp_path)
    assert told["first"] > 0.8, "the box leans to the dot"
    assert told["second"] < told["first"] - 0.15, "and hardly does, once as much ink is on the other side"


def test_a_generator_is_one_cell_of_at_most_forty_lines() -> None:
    cells = [cell.source for cell in read("generator").cells if cell.cell_type == "code"]
    (own,) = (
        source.partition("class BarDot(Generator):")[2] for source in cells if "class BarDot(Generator)" in source
    )
    assert 20 < len([line for line in own.splitlines() if line.strip()]) <= 40


@pytest.mark.parametrize("name", NAMES)
def test_its_file_is_clean_and_shows_what_it_gave(name: str) -> None:
    book = read(name)
    assert clean(book) == book, "type: python -m tests.notebooks"
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run from the first to the last"
    shown = [output for cell in code for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    assert any({"text/html", "image/png"} & set(output.get("data", ())) for output in shown), "tables or pictures"
    text = (FOLDER / f"{name}.ipynb").read_text()
    assert str(Path.home()) not in text
    assert "/tmp" not in text


def test_all_of_them_are_small() -> None:
    files = sorted(FOLDER.glob("*.ipynb"))
    assert [path.stem for path in files] == sorted(NAMES)
    assert sum(path.stat().st_size for path in files) < MOST
