"""Tables of measurements on a terminal of 80 columns, and their charts. Alone: pytest tests/probes/test_tables.py."""

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from probekit.measurement import Result, read_result
from probekit.output.document import Table
from probekit.output.pictures import save
from probekit.output.terminal import show_table
from probekit.probes.measurements.all_checkpoints import AllCheckpoints
from probekit.probes.measurements.base import Probe
from probekit.probes.measurements.dense import Dense
from probekit.probes.measurements.fractions import Fractions
from probekit.probes.measurements.linear import Linear
from probekit.probes.measurements.multilabel import Multilabel
from probekit.probes.measurements.retrieval import Retrieval
from probekit.probes.protocol import Part, probe
from tests.probes import made
from tests.reports.further import further_results

CI = r"\[[\d.]+,[\d.]+\]"


def rows(classes: int) -> list[dict[str, Any]]:
    """Baselines before the encoder, as a careless caller may hand them over."""
    rng = np.random.default_rng(classes)
    y = np.arange(classes * 6) % classes
    x = np.eye(classes)[y] + 0.3 * rng.normal(size=(len(y), classes))
    names = [f"class {i} $_$ [and] a name too long to show whole" for i in range(classes)]
    half = len(y) // 2
    found = []
    for name, kind, values in (("chance", "baseline", 0 * x), ("conrec [last]", "encoder", x)):
        train = Part(values[:half], y[:half], {"corner": y[:half] % 2, "triangle": y[:half] // 2 % 2})
        test = Part(values[half:], y[half:], {"corner": y[half:] % 2, "triangle": y[half:] // 2 % 2})
        found.append(probe(name, kind, train, test, classes=names, protocol="fixed", seed=0))
    return found


def result(asked: Probe, *found: dict[str, Any]) -> Result:
    return made.result(asked, made.conditions(asked, classes=("a", "b")), *found)


def printed(table: Table) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    show_table(table, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_encoders_come_first_and_every_number_is_on_80_columns() -> None:
    """In as many parts as it takes; intervals stand under their numbers."""
    found = rows(4)
    encoder = found[1]
    table = Linear().tables(result(Linear(), *found))[0]
    assert [row[0].text for row in table.rows] == ["conrec [last]", "chance"]
    assert table.strong == {0}
    lines = printed(table)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    places = {name: next(i for i, line in enumerate(lines) if name in line) for name in ("conrec [last]", "chance")}
    assert places["conrec [last]"] < places["chance"]
    for scores, name in ((encoder, "ci"), (encoder["factors"]["triangle"], "ci"), (encoder, "macro_f1_ci")):
        low, high = (100 * end for end in scores[name])
        assert re.search(rf"\[{low:.1f},{high:.1f}\]|\[{low:.0f},{high:.0f}\]", text), name
    assert f"{encoder['log_loss']:.3f}" in text
    assert f"{100 * encoder['factors']['triangle']['accuracy']:.1f}" in text


def test_what_is_undefined_is_a_dash() -> None:
    row = rows(4)[1] | {"log_loss": None, "log_loss_ci": None, "factors": {"corner": {"accuracy": None, "ci": None}}}
    table = Linear().tables(result(Linear(), row))[0]
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert [cells[name].text for name in ("log-loss", "corner %", "encoder is")] == ["-", "-", "-"]
    assert "-" in [word for line in printed(table) if "conrec" in line for word in line.split()]


@pytest.mark.parametrize("classes", [2, 130])
def test_charts_are_drawn_and_leave_matplotlib_alone(classes: int, tmp_path: Path) -> None:
    settings = dict(matplotlib.rcParams)
    charts = Linear().charts(result(Linear(), *rows(classes)))
    assert [chart.key for chart in charts] == ["bars", "confusion"]
    for chart in charts:
        image = imread(save(chart.draw(), tmp_path / f"{chart.key}.png"))
        assert image.shape[1] >= 400
        assert image[..., :3].std() > 0.05
    assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize(
    ("value", "ci", "shown"),
    [
        (0.5, [0.4, 0.6], "50.0 [40.0, 60.0]"),
        (0.98, [0.9, 1.0], "98.0 [90.0, 100.0]"),
        (0.02, [0.0, 0.09], "2.0 [0.0, 9.0]"),
        (0.861, [0.713, 0.939], "86.1 [71.3, 93.9]"),
        (0.5, None, "50.0"),
    ],
)
def test_an_interval_is_its_ends_whichever_the_middle(value: float, ci: list[float] | None, shown: str) -> None:
    """31 of 36 right: Wilson's interval is 71.3 to 93.9, not 86.1 plus or minus 11.3."""
    score = {"value": value, "ci": ci}
    point = {"fraction": 1.0, "n": 10, "scores": {"linear": score}}
    row = {"name": "e", "kind": "encoder", "of": "linear", "points": [point], "n_test": 9}
    found = result(Fractions(), row | {"complexity": {"0.9": 1200}, "complexity_ci": {"0.9": [40, 1200]}})
    assert read_result(found) == Fractions()
    (cells,) = Fractions().tables(found)[0].rows
    assert [cell.text for cell in cells] == ["e", shown, "1200 [40, 1200]"]
    bare = Fractions().tables(result(Fractions(), row | {"complexity": {}, "complexity_ci": {}}))[0]
    assert (len(bare.columns), bare.how, bare.folded) == (2, "", False), "nothing is said of columns that are not there"
    along = result(AllCheckpoints(), {"name": "last", "kind": "encoder", "epoch": 3, "scores": {"kNN": score}})
    (cells,) = AllCheckpoints().tables(along)[0].rows
    assert [cell.text for cell in cells] == ["last", "3", shown]


def test_an_encoder_alone_is_not_set_beside_baselines() -> None:
    chance, encoder = rows(2)
    for found, beside in (([encoder], False), ([chance, encoder], True)):
        made_of = result(Linear(), *found)
        table, chart = Linear().tables(made_of)[0], Linear().charts(made_of)[0]
        assert ["McNemar" in table.how, "baseline" in table.title, "Grey" in chart.how] == [beside] * 3


def test_what_neighbours_share_has_its_ends() -> None:
    """1 - a ratio of medians: at most 1, and far from the middle of its interval."""
    score = {"value": 0.5, "ci": None, "chance": 0.25}
    shared: dict[str, Any] = {"x": {"kind": "real", "value": 0.827, "ci": [-0.7, 0.93], "chance": 0.0}}
    row = {"name": "e", "kind": "encoder", "n": 9, "skipped": 0, "scores": {"rank1": score}, "fingerprint": shared}
    found = result(Retrieval(), row | {"gallery": [], "labels": [0], "predicted": [0]})
    table = next(table for table in Retrieval().tables(found) if "share" in table.key)
    assert table.rows[0][2].text == "82.7 [-70.0, 93.0]"


def test_the_precision_of_each_class_stands_beside_that_of_the_baselines() -> None:
    found = further_results()["multilabel"]
    table = Multilabel().tables(found)[1]
    encoder, random = found["rows"]
    assert random["name"] == "random weights"
    place = table.columns.index("AP voc2010 %, random weights")
    assert [row[place].value for row in table.rows] == [pytest.approx(c["ap"]["voc2010"]) for c in random["per_class"]]
    numbers = Multilabel().numbers(encoder)
    for of_class in encoder["per_class"]:
        assert numbers[f"AP, {of_class['name']}"].value == of_class["ap"]["voc2010"]
        assert Multilabel().measures(f"AP, {of_class['name']}")
    assert not [name for name in Multilabel().scores(encoder) if name.startswith("AP, ")]


def test_every_question_of_a_dense_probe_has_a_column_and_its_classes_a_line() -> None:
    found = further_results()["dense"]
    scores, classes = Dense().tables(found)
    assert {"objects, mIoU %", "evidence:corner, mIoU %"} <= set(scores.columns)
    assert [tuple(cell.text for cell in row[:2]) for row in classes.rows] == [
        ("objects", "the rest"),
        ("objects", "disc"),
        ("objects", "bar"),
        ("evidence:corner", "the rest"),
        ("evidence:corner", "evidence:corner"),
    ]
    assert classes.rows[4][2].value is None
    assert Dense().scores(found["rows"][0])["IoU, evidence:corner"].value is None
    assert set(Dense().main_scores(found["rows"][0])) == {"mIoU, objects", "mIoU, evidence:corner"}
    assert len(Dense().sentences(found)) == len(Dense().charts(found)) == 2
