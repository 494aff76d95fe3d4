"""`demo --quick`: the encoder that comes along, and what is measured of it.

Alone: pytest tests/test_demo.py
"""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from probekit.files import sha256


def test_the_encoder_that_comes_along_is_the_one_that_was_measured() -> None:
    """`make encoder` makes it: 71.0 % on its own images. README and docs show its numbers, and it is in two pictures.

    Another one: `python -m tests.pages`, README, docs/heatmaps.md with heatmaps.png, docs/draw.md with draw.png.
    """
    from probekit.cli.demo import ENCODER
    from probekit.models.encoder import load_encoder

    assert sha256(ENCODER) == "56b28c65c5a76fc61a4d322c6789782dcb9ad4fd91aec9d2ce9337c459f81aa1"
    _, header = load_encoder(ENCODER)
    assert (header["method"], header["epoch"]) == ("conrec-gap", 45)


@pytest.mark.usefixtures("plain_pictures")
def test_the_quick_demo_measures_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from probekit.cli import demo
    from probekit.exams import examine

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=4))
    out = io.StringIO()
    run = demo.run_quick(data=Path("data"), runs=Path("runs"), console=Console(file=out, width=200))
    said = out.getvalue()
    assert "came along" in said
    assert "Reads a gap" in said or "a gap not even" in said
    found = json.loads((run.results / "linear-tuned-last.json").read_text())
    accuracy = {row["name"]: row["accuracy"] for row in found["rows"]}
    assert accuracy["unet last"] > accuracy["raw pixels"] + 0.1
    assert run.path.joinpath("report.html").is_file()
