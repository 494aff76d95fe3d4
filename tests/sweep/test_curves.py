"""A dataset that varies one parameter of its generator: the datasets it becomes, what is refused, the curve over it.

Alone: pytest tests/sweep/test_curves.py
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from rich.console import Console

from probekit.output.charts import draw_curves, geometric
from probekit.output.style import LIGHT
from probekit.sweep.definition import Curve, describe, parse, shipped
from probekit.sweep.folder import SweepFolder
from probekit.sweep.plan import definition, plan_runs
from probekit.sweep.results import collect_curves
from probekit.sweep.table import above_chance, markdown, terminal_tables
from tests.output.marks import weak_marks
from tests.sweep.test_breaks import FILE, RUNS, sweep
from tests.sweep.test_definition import complaint

VARIED = """# About this one.
seeds = [0]
[[datasets]]
name = "rt"
generator = "rect-tri"
set = ["rotation=45"]
vary = { corner_radius = [16, 1.5, 4] }
score = "last/linear: corner"
[[datasets]]
name = "plain"
generator = "circ-sq"
[[rows]]
method = "simclr"
"""
NAMES = ["rt-corner_radius-1.5", "rt-corner_radius-4", "rt-corner_radius-16"]


def test_a_varied_dataset_is_one_for_each_value_in_rising_order() -> None:
    sweep = parse("small", VARIED, where="small.toml")
    assert [dataset.name for dataset in sweep.datasets] == [*NAMES, "plain"]
    assert [dataset.settings for dataset in sweep.datasets] == [
        ("rotation=45", "corner_radius=1.5"),
        ("rotation=45", "corner_radius=4"),
        ("rotation=45", "corner_radius=16"),
        (),
    ]
    levels = dict(zip(NAMES, (1.5, 4.0, 16.0), strict=True))
    assert sweep.curves == (Curve("rt", "rect-tri", "corner_radius", "last/linear: corner", levels),)
    assert sweep.curves[0].unit == "px at 128"
    assert Curve("t", "trace", "turns", "last/linear", {}).unit == ""  # not "turns, turns"
    planned = plan_runs(sweep, "small", preset="quick", epochs=None, seeds=(0,))
    assert [run.name for run in planned] == [f"small-{name}-simclr-seed0" for name in (*NAMES, "plain")]
    assert "linear: corner" in planned[0].measure.also


def test_what_sweep_json_keeps_of_other_datasets_is_as_it_was() -> None:
    """A sweep that was started before goes on; what a curve shows may change."""
    kept = definition(parse("small", VARIED, where="small.toml"))["datasets"]
    assert not {"vary", "score"} & {key for dataset in kept for key in dataset}
    assert kept == definition(parse("small", VARIED.replace(": corner", ""), where="small.toml"))["datasets"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("corner_radius", "corner_radios", "unknown parameter 'corner_radios' of rect-tri; .* did you mean 'corner_ra"),
        ("1.5", "99", r"expected corner_radius from 0 to 32 px at 128, found 99.* \(in datasets\[0\] of small.toml\)$"),
        ("1.5", "'x'", r"expected datasets\[0\].vary.corner_radius\[1\] = a (whole )?number.* found 'x'"),
        ("1.5", "true", r"expected datasets\[0\].vary.corner_radius\[1\] = a (whole )?number.* found True"),
        ("1.5", "16.0", "expected different values of vary.corner_radius, found 16.0 twice"),
        ("[16, 1.5, 4]", "[4]", r"expected vary.corner_radius = a list of 2 to 100 values, found \[4\]"),
        ("[16, 1.5, 4]", str(list(range(101))), "expected vary.corner_radius = a list of 2 to 100 values, found 101"),
        ("[16, 1.5, 4]", "4", r"expected datasets\[0\].vary.corner_radius = a list in small.toml, found 4"),
        ("[16, 1.5, 4]", "[4, 8], rotation = [0, 1]", "expected vary = one parameter with its values, found corner_r"),
        ("rotation=45", "corner_radius=4", "expected corner_radius in vary or in set, found both; leave one out"),
        ("set =", 'npz = "a.npz"\nset =', "expected vary without npz, whose images are as they are, found both"),
        ("vary = { corner_radius = [16, 1.5, 4] }", "", "expected score with vary, found it alone; leave it out"),
        ('generator = "rect-tri"\nset = ["rotation=45"]', 'file = "a.h5"', "expected file with .*, found score; leave"),
        ("last/linear: corner", "last/linaer", r"unknown score 'last/linaer'; .*dataset rt in small.toml"),
        ("last/linear: corner", "last/kNN", "unknown score 'last/kNN'"),
        (
            'name = "plain"',
            f'name = "{NAMES[1]}"',
            f"expected different datasets in small.toml, found '{NAMES[1]}' twi",
        ),
        ('name = "rt"', f'name = "{"r" * 50}"', "name of at most 60 letters"),
    ],
)
def test_a_mistake_is_one_line(old: str, new: str, message: str) -> None:
    assert old in VARIED
    with pytest.raises(ValueError, match=message) as caught:
        parse("small", VARIED.replace(old, new, 1), where="small.toml")
    assert "\n" not in str(caught.value)


JUNK = ["{}", "{ corner_radius = [] }", "{ a = [1, 2] }", "{ '' = [1, 2] }", "3", "[]", "{ corner_radius = [nan, 1] }"]
JUNK += ["{ corner_radius = [1e400, 1] }", "{ corner_radius = [[1], 2] }", '{ "corner_radius=3\\n" = [1, 2] }', "''"]
JUNK += ["{ corner_radius = [99999999999999999999, 2] }", "{ dark = [0, 1] }", "{ dark = [false, true] }"]


@pytest.mark.parametrize("value", JUNK)
def test_any_vary_is_taken_or_refused_in_one_line(value: str) -> None:
    assert "\n" not in complaint(VARIED.replace("{ corner_radius = [16, 1.5, 4] }", value))


def score(mean: float, *ends: float) -> dict[str, Any]:
    return {"mean": mean, "ci": list(ends) or None, "n": 3, "values": {}}


def baseline(dataset: str, name: str, value: float, *ends: float, score: str = "linear: corner") -> dict[str, Any]:
    return {"dataset": dataset, "score": score, "name": name, "value": value, "ci": list(ends) or None, "n": 500}


CURVE = Curve("rt", "rect-tri", "corner_radius", "last/linear: corner", {"a": 1.0, "b": 4.0, "c": 16.0})
ROWS = [
    {"dataset": "a", "row": "net", "scores": {CURVE.score: score(0.5, 0.45, 0.55), "last/linear": score(0.3)}},
    {
        "dataset": "b",
        "row": "net",
        "scores": {CURVE.score: score(0.7, 0.6, 0.8), "last@norm/linear: corner": score(0.6)},
    },
    {"dataset": "c", "row": "net", "scores": {}},
    {"dataset": "other", "row": "net", "scores": {CURVE.score: score(0.9)}},
]
BESIDE = [
    baseline("a", "chance", 0.5, 0.45, 0.55),
    baseline("b", "chance", 0.48, 0.45, 0.55),
    baseline("a", "patch bag", 0.52, 0.48, 0.56),
    baseline("c", "patch bag", 1.0, 0.99, 1.0),
    baseline("a", "patch bag", 0.26, score="linear"),
    baseline("other", "patch bag", 0.1),
]


def test_a_curve_is_its_score_at_each_level() -> None:
    (found,) = collect_curves([CURVE], ROWS, BESIDE)
    nothing = {"value": None, "ci": None, "n": 0}
    assert found == {
        "name": "rt",
        "generator": "rect-tri",
        "parameter": "corner_radius",
        "unit": "px at 128",
        "score": "last/linear: corner",
        "datasets": ["a", "b", "c"],
        "levels": [1.0, 4.0, 16.0],
        "chance": [0.5, 0.48, None],
        "chance_ci": [[0.45, 0.55], [0.45, 0.55], None],
        "lines": [
            {
                "name": "net",
                "kind": "row",
                "points": [
                    {"value": 0.5, "ci": [0.45, 0.55], "n": 3},
                    {"value": 0.7, "ci": [0.6, 0.8], "n": 3},
                    nothing,
                ],
            },
            {"name": "net@norm", "kind": "row", "points": [nothing, {"value": 0.6, "ci": None, "n": 3}, nothing]},
            {
                "name": "patch bag",
                "kind": "baseline",
                "points": [
                    {"value": 0.52, "ci": [0.48, 0.56], "n": 500},
                    nothing,
                    {"value": 1.0, "ci": [0.99, 1.0], "n": 500},
                ],
            },
        ],
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_above_chance_is_the_whole_interval() -> None:
    """At 1 the interval holds chance, at 16 chance is not known."""
    (found,) = collect_curves([CURVE], ROWS, BESIDE)
    assert [above_chance(found, line) for line in found["lines"]] == [[4.0], [4.0], []]


def test_seeds_that_are_all_alike_are_above_chance_where_they_are() -> None:
    alike, one = ({"value": 1.0, "ci": None, "n": n} for n in (3, 1))
    below = alike | {"value": 0.5}
    found: dict[str, Any] = {"levels": [1.0, 2.0, 4.0], "chance": [0.5] * 3, "chance_ci": [None] * 3}
    assert above_chance(found, {"kind": "row", "points": [alike, one, below]}) == [1.0]
    assert above_chance(found, {"kind": "baseline", "points": [alike, one, below]}) == []


def test_a_row_that_is_within_what_chance_may_be_on_so_few_images_is_not_above() -> None:
    narrow, alike, wide = ({"value": 0.53, "ci": ci, "n": 3} for ci in ([0.52, 0.54], None, [0.4, 0.7]))
    found = {"levels": [1.0, 2.0, 4.0], "chance": [0.5] * 3, "chance_ci": [[0.456, 0.544]] * 3}
    assert above_chance(found, {"kind": "row", "points": [narrow, alike, wide]}) == []
    assert above_chance(
        found | {"chance_ci": [[0.49, 0.51]] * 3}, {"kind": "row", "points": [narrow, alike, wide]}
    ) == [1, 2]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([1, 2, 4, 8], True),
        ([2, 8, 16, 32], True),
        ([0.25, 0.5, 0.75, 1], False),
        ([13, 14, 15], False),
        ([0, 1, 2, 4], False),
        ([-4, -2, -1], False),
        ([2, 24], False),
    ],
)
def test_levels_that_double_have_a_logarithmic_axis(levels: list[float], expected: bool) -> None:
    assert geometric(levels) is expected
    curve = {
        "name": "c",
        "parameter": "p",
        "unit": "",
        "levels": levels,
        "chance": [0.5] * len(levels),
        "chance_ci": [None] * len(levels),
        "lines": [],
    }
    (axes,) = draw_curves([curve]).axes
    assert axes.get_xscale() == ("log" if expected else "linear")
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"{level:g}" for level in levels]


def test_the_figure_shows_the_numbers() -> None:
    (curve,) = collect_curves([CURVE], ROWS, BESIDE)
    other = curve | {"name": "other", "lines": curve["lines"][2:]}
    figure = draw_curves([curve, other])
    first, second = figure.axes
    drawn = {line.get_label(): line for line in first.lines}
    np.testing.assert_array_equal(drawn["net"].get_xdata(), [1, 4, 16])
    np.testing.assert_array_equal(drawn["net"].get_ydata(), [50, 70, math.nan])
    np.testing.assert_array_equal(drawn["patch bag"].get_ydata(), [52, math.nan, 100])
    np.testing.assert_array_equal(first.lines[-1].get_ydata(), [50, 48, math.nan])
    band = first.collections[0].get_paths()[0].vertices
    assert {(x, round(y, 6)) for x, y in np.asarray(band)} == {(1, 45), (1, 55), (4, 60), (4, 80)}
    alone = np.asarray(first.collections[-1].get_paths()[2].vertices)  # the bag at 16, whose neighbour has no interval
    np.testing.assert_allclose(alone, [[16, 99], [16, 100]])
    assert (first.get_xlabel(), first.get_title(loc="left")) == ("corner_radius, px at 128", "rt")
    # One colour a name, whatever else a chart has; the names once, above.
    assert {to_hex(axes.lines[-2].get_color()) for axes in (first, second)} == {LIGHT["green"]}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["net", "net@norm", "patch bag"]
    assert weak_marks(figure) == []


def test_a_curve_alone_has_names_at_the_ends_of_its_lines() -> None:
    (curve,) = collect_curves([CURVE], ROWS, BESIDE)
    figure = draw_curves([curve])
    assert not figure.legends
    assert {text.get_text() for text in figure.axes[0].texts} == {"net", "net@norm", "patch bag"}


def results() -> dict[str, Any]:
    about = {
        "name": "s",
        "about": "About.",
        "preset": "quick",
        "epochs": [1],
        "seeds": [0],
        "planned": 3,
        "finished": 2,
    }
    rows = [row | {"method": "simclr", "settings": [], "factors": {}, "paper": []} for row in ROWS]
    datasets = [{"name": name, "origin": "rendered", "n_train": 9, "n_test": 9} for name in ("a", "b", "c", "other")]
    curves = collect_curves([CURVE], ROWS, BESIDE)
    more = {"datasets": datasets, "rows": rows, "baselines": BESIDE, "curves": curves, "pairs": [], "runs": []}
    return about | more


def test_the_table_of_a_curve() -> None:
    text = markdown(results())
    head, _, rest = text.partition("## rt over corner_radius: linear: corner")
    assert "![Curves](curves.png)" in head
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in rest.splitlines() if line.startswith("|")]
    assert cells[0] == ["corner_radius, px at 128", "1", "4", "16", "above chance at"]
    assert cells[2:6] == [
        ["net", "50.0 ± 5.0", "70.0 ± 10.0", "-", "4"],
        ["net@norm", "-", "60.0", "-", "4"],
        ["patch bag", "52.0 [48.0, 56.0]", "-", "100.0 [99.0, 100.0]", "-"],
        ["chance", "50.0", "48.0", "-", ""],
    ]


def test_the_terminal_has_one_table_a_curve_in_place_of_its_datasets() -> None:
    console = Console(width=80)
    with console.capture() as caught:
        for table in terminal_tables(results()):
            console.print(table)
    lines = caught.get().splitlines()
    heads = [line.split()[0] for line in lines if line.strip() and "─" not in line]
    assert heads == ["rt:", "net", "net@norm", "patch", "chance", "other", "net", "patch"]
    assert max(map(len, lines)) <= 80
    assert next(line.split()[1:] for line in lines if line.split()[:1] == ["net"]) == ["50.0", "70.0", "-", "4"]


@pytest.mark.usefixtures("plain_pictures")
def test_a_sweep_draws_its_curves(tmp_path: Path) -> None:
    text = FILE.partition("[[paper]]")[0].replace("seeds = [0, 1]", "seeds = [0]")
    (tmp_path / "s.toml").write_text(text.replace("size = 16", "size = 16\nvary = { corner_radius = [4, 16] }"))
    code, out, err = sweep("s.toml", "--preset", "quick", "--epochs", "1", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "curves.png" in " ".join(out.split())
    folder = tmp_path / "sweeps/s"
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((folder / "results.json").read_text())
    (curve,) = found["curves"]
    names = [RUNS[0].replace("-rt-", f"-rt-corner_radius-{level}-") for level in (4, 16)]
    of_runs = {run["name"]: run["scores"]["last/linear"] for run in found["runs"]}
    assert curve["levels"] == [4.0, 16.0]
    assert [point["value"] for point in curve["lines"][0]["points"]] == [of_runs[name] for name in names]
    assert curve["chance"] == [0.25, 0.25]
    assert [line["name"] for line in curve["lines"]] == ["simclr", "conrec"]


def test_a_sweep_without_curves_draws_none(tmp_path: Path) -> None:
    assert SweepFolder(tmp_path / "s").draw({"curves": []}) is None
    assert not list(tmp_path.iterdir())


def test_a_shipped_sweep_is_listed_with_all_its_levels() -> None:
    assert "dose" in shipped()
    found = describe("dose")
    assert found["runs"] == len(found["datasets"]) * len(found["rows"]) * len(found["seeds"])
    assert sum(name.startswith("landolt-gap-") for name in found["datasets"]) >= 2
