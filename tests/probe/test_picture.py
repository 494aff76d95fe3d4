"""The table at 80 columns and the PNG, with few and with many classes. Alone: pytest tests/probe/test_picture.py."""

import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from probekit.probe.figure import draw_probe
from probekit.probe.protocol import Part, probe
from probekit.probe.table import probe_table


def rows(classes: int) -> list[dict[str, Any]]:
    """Floors before the encoder, as a careless caller may hand them over."""
    rng = np.random.default_rng(classes)
    y = np.arange(classes * 6) % classes
    x = np.eye(classes)[y] + 0.3 * rng.normal(size=(len(y), classes))
    names = [f"class {i} $_$ [and] a name too long to show whole" for i in range(classes)]
    half = len(y) // 2
    found = []
    for name, kind, values in (("chance", "floor", 0 * x), ("conrec [last]", "encoder", x)):
        train = Part(values[:half], y[:half], {"corner": y[:half] % 2, "triangle": y[:half] // 2 % 2})
        test = Part(values[half:], y[half:], {"corner": y[half:] % 2, "triangle": y[half:] // 2 % 2})
        found.append(probe(name, kind, train, test, classes=names, protocol="paper", seed=0))
    return found


def printed(found: list[dict[str, Any]]) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(probe_table(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_table_puts_encoders_first_and_fits_80_columns() -> None:
    found = rows(4)
    lines = printed(found)
    assert max(map(len, lines)) <= 80
    places = {name: next(i for i, line in enumerate(lines) if name in line) for name in ("conrec [last]", "chance")}
    assert places["conrec [last]"] < places["chance"]
    line = lines[places["conrec [last]"]]
    encoder = found[1]
    low, high = encoder["ci"]
    assert f"{100 * encoder['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in line
    assert f"{encoder['log_loss']:.3f}" in line
    assert f"{100 * encoder['factors']['triangle']['accuracy']:.1f}" in line


def test_table_shows_what_is_undefined_as_a_dash() -> None:
    row = rows(4)[1] | {"log_loss": None, "factors": {"corner": {"accuracy": None}}}
    line = next(line for line in printed([row]) if "conrec" in line)
    assert line.split()[-2:] == ["-", "-"]


@pytest.mark.parametrize("classes", [2, 130])
def test_png_is_drawn_and_leaves_matplotlib_alone(classes: int, tmp_path: Path) -> None:
    settings = dict(matplotlib.rcParams)
    path = tmp_path / "probe.png"
    draw_probe({"run": "conrec-0", "data": "rect-tri.h5", "protocol": "paper", "rows": rows(classes)}, path)
    image = imread(path)
    assert image.shape[0] >= 400
    assert image.shape[1] >= 1000
    assert image[..., :3].std() > 0.05
    assert dict(matplotlib.rcParams) == settings
