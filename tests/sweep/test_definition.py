"""Sweep files: what the shipped ones hold, and that any other text is taken or refused in one line.

Alone: pytest tests/sweep/test_definition.py
"""

import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.config import Config, resolve
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.sweep.definition import load, parse, shipped, with_settings
from probekit.sweep.plan import choose, plan_runs

SMALL = """# About this one.
seeds = [0, 1]
set = ["model.width=4"]
pairs = [["conrec", "simclr"]]
[[datasets]]
name = "rt"
generator = "rect-tri"
[[rows]]
method = "simclr"
[[rows]]
method = "conrec"
set = ["method.alpha=50"]
[[paper]]
source = "nobody"
score = "last/linear"
percent.rt = { conrec = 50 }
"""


def test_the_small_file_is_read_whole() -> None:
    sweep = parse("small", SMALL, where="small.toml")
    assert (sweep.about, sweep.seeds, sweep.pairs) == ("About this one.", (0, 1), (("conrec", "simclr"),))
    assert [row.settings for row in sweep.rows] == [("model.width=4",), ("model.width=4", "method.alpha=50")]
    (paper,) = sweep.papers
    assert paper.shares("rt") == {"conrec": 0.5}
    assert (sweep.datasets[0].size, sweep.datasets[0].n) == (128, None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1]", "", "expected seeds = a list in small.toml, found nothing"),
        ("seeds = [0, 1]", "seeds = []", r"expected seeds = a list of length at least 1 in small.toml, found \[\]"),
        ("seeds = [0, 1]", "seeds = [0, true]", r"expected seeds\[1\] = a whole number in small.toml, found True"),
        (
            "seeds = [0, 1]",
            "seeds = [0, -1]",
            r"expected seeds\[1\] = a whole number of at least 0 in small.toml, found -1",
        ),
        ("seeds = [0, 1]", "seeds = [1, 1]", "found 1 twice"),
        ("seeds = [0, 1]", "seed = [0, 1]\nseeds = [0]", "unknown key 'seed'.*did you mean 'seeds'"),
        ("seeds = [0, 1]", "seeds = [0\n", "expected TOML in small.toml"),
        ('method = "simclr"', 'method = "simcrl"', "unknown method 'simcrl'.*did you mean 'simclr'"),
        ('method = "simclr"', "method = 3", r"expected rows\[0\]\.method = a string in small.toml, found 3"),
        ('method = "simclr"', 'method = "conrec"', "expected different rows in small.toml, found 'conrec' twice"),
        (
            'method = "simclr"',
            'method = "simclr"\nname = "a/b"',
            r"expected rows\[0\]\.name = a name of at most 60 letters",
        ),
        (
            'method = "simclr"',
            'method = "simclr"\nwidth = 3',
            r"unknown key 'rows\[0\]\.width'; known: rows\[0\]\.branch, ",
        ),
        (
            'generator = "rect-tri"',
            'generator = "rect-tir"',
            r"unknown generator 'rect-tir'.* \(in datasets\[0\] of small.toml\)$",
        ),
        ('generator = "rect-tri"', "", "expected generator, npz, file, folder, import: one of them, found none"),
        ('generator = "rect-tri"', 'npz = "../x.npz"', "expected npz = the name of a file"),
        (
            'generator = "rect-tri"',
            'generator = "rect-tri"\nn = 0',
            r"expected datasets\[0\]\.n = a whole number of at least 1 in small.toml, found 0",
        ),
        ('generator = "rect-tri"', 'generator = "rect-tri"\nsize = 8', "expected a size from 16"),
        ('generator = "rect-tri"', 'generator = "rect-tri"\nstyle = "paper"', "style"),
        ('generator = "rect-tri"', 'generator = "rect-tri"\nset = ["corner_radios=3"]', "corner_radios"),
        ('"method.alpha=50"', '"alpha"', "expected NAME=VALUE after --set, found 'alpha'"),
        ('"method.alpha=50"', "50", r"expected rows\[1\]\.set\[0\] = a string in small.toml, found 50"),
        ('["conrec", "simclr"]', '["conrec", "conrec"]', "expected pairs of two different rows"),
        ('["conrec", "simclr"]', '["conrec", "byol"]', "unknown row 'byol'"),
        ('["conrec", "simclr"]', "3", r"expected pairs\[0\] = a list of 2 in small.toml, found 3"),
        ('"last/linear"', '"last"', "unknown score 'last'"),
        ("percent.rt", "percent.tr", "unknown dataset 'tr'"),
        ("conrec = 50", "conrek = 50", "unknown row 'conrek'"),
        (
            "conrec = 50",
            "conrec = 500",
            r"expected paper\[0\].percent.rt.conrec = a number of at most 100 in small.toml, found 500",
        ),
        ('source = "nobody"', "", r"expected paper\[0\].source = a string in small.toml, found nothing"),
        ("[[datasets]]", "[[dataset]]", "expected datasets = a list"),
        (
            "[[paper]]",
            '[cross]\nmethods = ["simclr"]\noverrides.a = []\n[[paper]]',
            "expected either rows or cross, found both",
        ),
    ],
)
def test_a_mistake_is_one_line(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(ValueError, match=message) as caught:
        parse("small", SMALL.replace(old, new, 1), where="small.toml")
    assert "\n" not in str(caught.value)


def complaint(text: str) -> str:
    """What a file is refused with, or nothing; any other exception is a bug."""
    try:
        parse("small", text, where="small.toml")
    except ValueError as error:
        return str(error)
    return ""


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_any_text_is_refused_in_one_line(text: str) -> None:
    assert "\n" not in complaint(text)


JUNK = st.one_of(
    st.sampled_from(["3", "-1", "1e400", "nan", "true", '""', '"a\\nb"', "[]", "[[]]", "{}", "{a = 1}", "[{a = []}]"]),
    st.sampled_from(["[1, 'x']", "1979-05-27", "['a=1']", "['=']", "99999999999999999999", "{'' = ['a=b']}"]),
)


@given(st.sampled_from([line for line in SMALL.splitlines() if "=" in line]), JUNK)
@settings(max_examples=300)
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(line: str, value: str) -> None:
    assert "\n" not in complaint(SMALL.replace(line, f"{line.partition('=')[0]}= {value}", 1))


@pytest.mark.parametrize("key", ["methods", "overrides"])
@given(value=JUNK)
@settings(max_examples=60)
def test_any_cross_is_taken_or_refused_in_one_line(key: str, value: str) -> None:
    head = SMALL.partition("[[rows]]")[0].replace('pairs = [["conrec", "simclr"]]', "")
    parts = {"methods": '["simclr"]', "overrides": '{ "" = [] }'} | {key: value}
    assert "\n" not in complaint(head + "[cross]\n" + "\n".join(f"{k} = {v}" for k, v in parts.items()))


def test_a_cross_is_every_method_with_every_override() -> None:
    head = SMALL.partition("[[rows]]")[0].replace('pairs = [["conrec", "simclr"]]', "")
    text = head + '[cross]\nmethods = ["simclr", "conrec"]\noverrides = { "" = [], a8 = ["train.batch_size=8"] }\n'
    rows = parse("small", text, where="small.toml").rows
    assert [row.name for row in rows] == ["simclr", "simclr-a8", "conrec", "conrec-a8"]
    assert rows[3].settings == ("model.width=4", "train.batch_size=8")


def test_where_sweeps_are_found(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(SMALL)
    assert load(str(file)).name == "mine"
    with pytest.raises(ValueError, match=r"expected a sweep file .*none\.toml, found none"):
        load(str(tmp_path / "none.toml"))
    with pytest.raises(ValueError, match=r"unknown sweep 'tabel1'.*did you mean 'table1'"):
        load("tabel1")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="expected text in"):
        load(str(file))


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("preset", ["paper", "quick"])
def test_every_override_of_a_shipped_sweep_makes_a_method(name: str, preset: str) -> None:
    import torch

    sweep = load(name)
    assert sweep.about
    if sweep.preset not in (None, preset):
        pytest.skip("the file names its preset")
    planned = plan_runs(sweep, name, preset=preset, epochs=None, seeds=sweep.seeds)
    assert len(planned) == len(sweep.seeds) * len(sweep.datasets) * len(sweep.rows)
    for config in {repr(replace(run.config, seed=0)): run.config for run in planned}.values():
        with torch.device("meta"):
            build_method(config, channels=1)


def test_table1_is_table_1() -> None:
    """Ten cells, and the paper's numbers to the digit."""
    sweep = load("table1")
    assert len(sweep.datasets) * len(sweep.rows) == 10
    assert [(d.npz, d.generator, d.n, d.n_test) for d in sweep.datasets] == [
        ("rectangle-triangle.npz", "rect-tri-published", 1000, 500),
        ("circle-square.npz", "circ-sq-published", 600, 399),
    ]
    assert all(not row.settings and row.name == row.method for row in sweep.rows)
    (paper,) = sweep.papers
    assert paper.score == "best_test/monitor"
    printed = tomllib.loads((resources.files("probekit") / "presets/sweeps/table1.toml").read_text())
    assert printed["paper"][0]["percent"] == {
        "rect-tri": dict(zip(variants(), (85.6, 90.4, 91.8, 93.4, 96.4), strict=True)),
        "circ-sq": dict(zip(variants(), (99.50, 99.50, 86.47, 99.50, 98.75), strict=True)),
    }
    assert paper.shares("circ-sq")["reconstruction"] == pytest.approx(345 / 399, abs=5e-5)


def variants() -> list[str]:
    return ["simclr", "simclr-attention", "reconstruction", "conrec-gap", "conrec"]


def test_table1_clean_differs_from_table1_in_its_images_alone() -> None:
    ours, clean = load("table1"), load("table1-clean")
    assert (ours.rows, ours.pairs, ours.seeds) == (clean.rows, clean.pairs, clean.seeds)
    assert [dataset.generator for dataset in clean.datasets] == ["rect-tri", "circ-sq"]
    assert not clean.papers
    assert [(d.n, d.n_test, d.size) for d in ours.datasets] == [(d.n, d.n_test, d.size) for d in clean.datasets]


def config(method: str, *overrides: str) -> Config:
    return resolve(method, get(METHODS, "method", method), preset="paper", seed=0, overrides=overrides)


def test_each_control_changes_one_thing() -> None:
    """Corruption alone, then the reconstruction loss alone, for both poolings; none of them by the method's name."""

    def switches(name: str) -> tuple[str, float, str]:
        row = next(row for row in load("controls").rows if row.name == name)
        found = config(row.method, *row.settings)
        assert found.method_options["contrastive"] == 1.0
        return found.model.pooling, found.method_options["alpha"], found.views.recipe

    assert switches("simclr") == ("gap", 0.0, "simclr")
    assert switches("simclr-corrupted") == ("gap", 0.0, "conrec")
    assert switches("conrec-gap") == ("gap", 100.0, "conrec")
    assert switches("simclr-attention") == ("attention", 0.0, "simclr")
    assert switches("simclr-attention-corrupted") == ("attention", 0.0, "conrec")
    assert switches("conrec") == ("attention", 100.0, "conrec")


def test_batch_size_is_figure_6() -> None:
    found = [
        (row.method, config(row.method, *row.settings).train.batch_size, config(row.method, *row.settings).optimizer.lr)
        for row in load("batch-size").rows
    ]
    assert [(method, size) for method, size, _ in found] == [
        *(("simclr", size) for size in (4, 8, 16, 32, 64)),
        ("conrec", 16),
    ]


def test_runs_are_planned_seed_by_seed_and_their_settings_checked() -> None:
    sweep = parse("small", SMALL, where="small.toml")
    planned = plan_runs(sweep, "mine", preset="quick", epochs=7, seeds=(0, 5))
    assert [run.name for run in planned] == [
        "mine-rt-simclr-seed0",
        "mine-rt-conrec-seed0",
        "mine-rt-simclr-seed5",
        "mine-rt-conrec-seed5",
    ]
    assert {(run.epochs, run.config.model.width, run.config.preset) for run in planned} == {(7, 4, "quick")}
    assert planned[3].config.method_options["alpha"] == 50.0
    wrong = with_settings(sweep, ["train.epoch=3"])
    with pytest.raises(ValueError, match=r"did you mean 'train\.epochs'.*row simclr of sweep small"):
        plan_runs(wrong, "mine", preset="quick", epochs=None, seeds=(0,))


def test_a_row_wins_over_settings_for_every_row() -> None:
    rows = with_settings(parse("small", SMALL, where="small.toml"), ["method.alpha=1"]).rows
    assert [config(row.method, *row.settings).method_options["alpha"] for row in rows] == [1.0, 50.0]


def test_names_that_would_fall_together_are_refused() -> None:
    text = SMALL.replace('name = "rt"', 'name = "rt"\n[[datasets]]\nname = "rt-a"')
    text = text.replace('generator = "rect-tri"', 'generator = "circ-sq"')
    text = text.replace('name = "rt"\n', 'name = "rt"\ngenerator = "rect-tri"\n')
    text = text.replace('method = "simclr"\n', 'method = "simclr"\n[[rows]]\nname = "a-simclr"\nmethod = "simclr"\n')
    with pytest.raises(ValueError, match="found x-rt-a-simclr-seed0 twice"):
        plan_runs(parse("x", text, where="x"), "x", preset="quick", epochs=None, seeds=(0,))


def test_only_chooses_datasets_and_rows() -> None:
    sweep = load("table1")
    planned = plan_runs(sweep, "table1", preset="quick", epochs=None, seeds=(0,))

    def chosen(*only: str) -> list[tuple[str, str]]:
        return [(run.dataset, run.row.name) for run in choose(planned, only)]

    assert len(chosen()) == 10
    assert chosen("rect", "reconstruction") == [("rect-tri", "reconstruction")]
    assert chosen("conrec") == [(d, "conrec") for d in ("rect-tri", "circ-sq")]  # the name itself
    assert chosen("conr") == [(d, r) for d in ("rect-tri", "circ-sq") for r in ("conrec-gap", "conrec")]
    assert len(chosen("circ", "rect")) == 10
    with pytest.raises(ValueError, match=r"expected --only part of rect-tri, circ-sq, simclr.*found 'byol'"):
        chosen("byol")
