"""Branches, imports and `[measure]` of a sweep file: what is measured of which run, under which names, in which table.

Alone: pytest tests/sweep/test_measures.py
"""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from probekit.cli import app
from probekit.config import resolve
from probekit.h5 import read_info
from probekit.heatmaps.measurement import Heatmap
from probekit.measurement import Score
from probekit.probes.measurements.cross_validation import CrossValidation
from probekit.probes.measurements.linear import Linear
from probekit.probes.measurements.retrieval import Retrieval
from probekit.registry import METHODS, get
from probekit.run import Run, create_run, write_json
from probekit.sweep.datasets import build, describe
from probekit.sweep.definition import Row, Sweep, load, parse, with_settings
from probekit.sweep.jobs import Outcome
from probekit.sweep.measures import Measure, Step, read_scores, under_pool, without_pool
from probekit.sweep.plan import (
    PlannedRun,
    built,
    check_run,
    commands_left,
    definition,
    next_baselines,
    plan_runs,
    uneven_pairs,
)
from probekit.sweep.results import _intervals, _run
from tests.datasets import RUN
from tests.forked import forked_children
from tests.sweep.made import CHANCE, ENCODER, heatmap, linear, result, retrieval

MAPS = Heatmap(maps=("attention",), perturb=0)
MADE: dict[str, Any] = {"data_hash": RUN["dataset"]["hash"], "epoch": 2}
FILE = """# With branches.
seeds = [0]
set = ["model.width=8", "model.depth=3", "train.batch_size=8", "train.precision=fp32"]
pairs = [["fitted@branch", "plain"], ["fitted@branch", "fitted"]]
[measure]
retrieval = true
pools = ["branch"]
heatmap = { maps = ["attention"], perturb = 0 }
[[datasets]]
name = "rt"
generator = "rect-tri"
n = 16
n_test = 12
size = 16
[[datasets]]
name = "real"
import = "digits"
size = 8
[[rows]]
name = "plain"
method = "simclr"
[[rows]]
name = "fitted"
method = "simclr"
branch = ["lcr"]
set = ["branch.lcr.k=3"]
"""


def probekit(*words: str, cwd: Path) -> Result:
    """A command in this process; the children of a sweep are processes of their own."""
    with contextlib.chdir(cwd), forked_children():
        return CliRunner(env={"COLUMNS": "100"}).invoke(app, list(words))


def sweep_of(text: str = FILE) -> Sweep:
    return parse("small", text, where="small.toml")


def planned_of(text: str = FILE) -> list[PlannedRun]:
    return list(built(plan_runs(sweep_of(text), "small", preset="quick", epochs=2, seeds=(0,)), "cpu"))


def test_the_file_is_read_whole() -> None:
    sweep = sweep_of()
    assert [row.branches for row in sweep.rows] == [(), ("lcr",)]
    assert sweep.measures["rt"] == sweep.measures["real"] == Measure((Retrieval(), MAPS), ("branch",))
    assert [(dataset.official, dataset.size) for dataset in sweep.datasets] == [(None, 16), ("digits", 8)]
    assert sweep.pairs[0] == ("fitted@branch", "plain")
    assert sweep_of(FILE.replace("size = 8\n", "")).datasets[1].size == 32, "as probekit import"
    config = planned_of()[1].config
    assert config.branches["lcr"]["k"] == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["lcr"]', '["lrc"]', r"unknown branch 'lrc'.*did you mean 'lcr'\? \(in rows\[1\] of small.toml\)"),
        ('["lcr"]', '["lcr", "lcr"]', "expected different branches"),
        ('["lcr"]', '"lcr"', r"expected rows\[1\]\.branch = a list"),
        (
            'import = "digits"',
            'import = "digit"',
            "unknown official dataset 'digit'.*did you mean 'digits'",
        ),
        ('import = "digits"', 'import = "digits"\nroot = "there"', "expected no root for digits"),
        ('import = "digits"', 'import = "digits"\noptions.fraction = 1', "unknown option 'fraction'"),
        ('import = "digits"', 'import = "digits"\noptions.test_fraction = "1"', "options.test_fraction = a number"),
        ('import = "digits"', 'file = "a.h5"', r"expected file with name, pretrain, measure, found size"),
        ('import = "digits"', 'import = "digits"\npretrain = ["epochs"]', "expected NAME=VALUE"),
        ('import = "digits"', 'import = "digits"\nmeasure = { knm = true }', "unknown measurement 'knm'.*dataset real"),
        ("retrieval = true", "linear = false\n[x]", "unknown key 'x'"),
        (
            'import = "digits"',
            'import = "digits"\nn = 3',
            "expected import with name, .*, found n; leave it out",
        ),
        (
            'import = "digits"',
            'import = "digits"\ngenerator = "rect-tri"',
            "expected generator with name, .*, found import; leave it out",
        ),
        ("size = 8", "size = 0", r"expected datasets\[1\]\.size = a whole number of at least 1 in small.toml, found 0"),
        (
            "retrieval = true",
            "retrieval = 1",
            r"expected a table in \[measure.retrieval\] of .*, found 1",
        ),
        (
            "retrieval = true",
            "cv = { fold = 3 }",
            r"unknown option 'fold'; .*mean 'folds'\? \(in \[measure.cv\]",
        ),
        ("retrieval = true", "cv = { folds = 1 }", "expected 2 folds or more, found 1"),
        ("retrieval = true", 'cv = { metric = "kapa" }', "unknown value of --metric 'kapa'.*did you mean 'kappa'"),
        ("retrieval = true", "retrieve = true", "unknown measurement 'retrieve'.*did you mean 'retrieval'"),
        ('pools = ["branch"]', 'pools = ["brunch"]', "unknown pooling 'brunch'.*did you mean 'branch'"),
        ('pools = ["branch"]', 'pools = ["branch", "branch"]', "expected different pools"),
        (
            '["fitted@branch", "plain"]',
            '["fitted@norm", "plain"]',
            r"expected fitted@norm under one of the pools of \[measure\] in pairs",
        ),
        ('["fitted@branch", "plain"]', '["fitten@branch", "plain"]', "unknown row 'fitten'"),
    ],
)
def test_a_mistake_is_one_line(old: str, new: str, message: str) -> None:
    assert old in FILE
    with pytest.raises(ValueError, match=message) as caught:
        sweep_of(FILE.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_what_decides_a_sweeps_runs_is_kept_in_the_words_of_its_file() -> None:
    kept = definition(sweep_of())
    assert kept == json.loads(json.dumps(kept))
    assert kept["rows"][1]["branch"] == ["lcr"]
    assert (kept["datasets"][0]["import"], kept["datasets"][1]["import"]) == (None, "digits")
    assert not json.dumps(kept).count("retrieval"), "what is measured may change"


def test_a_pooling_that_no_row_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected pools in \[measure\] that a row can pool with, found 'attention'"):
        planned_of(FILE.replace('pools = ["branch"]', 'pools = ["branch", "attention"]'))


def test_a_sweep_whose_settings_were_fitted_to_its_images_goes_on(tmp_path: Path) -> None:
    """`pretrain` shortens moco-v2's queue to the images; --resume knows such a run as the sweep's."""
    few = FILE.replace("pools = [", "# pools = [").replace("pairs = ", "# pairs = ").split("[[rows]]")[0]
    few = few.replace("retrieval = true", "").replace('heatmap = { maps = ["attention"], perturb = 0 }', "")
    (tmp_path / "small.toml").write_text(few + '[[rows]]\nname = "plain"\nmethod = "moco-v2"\n')
    words = ("sweep", "small.toml", "--only", "rt")
    done = probekit(*words, "--epochs", "1", "--preset", "quick", cwd=tmp_path)
    assert done.exit_code == 0, done.output or done.exception
    run = json.loads((tmp_path / "runs/small-rt-plain-seed0/run.json").read_text())
    assert run["config"]["method_options"]["queue"] < 480, "else this proves nothing"
    done = probekit(*words, "--resume", cwd=tmp_path)
    assert done.exit_code == 0, done.output or done.exception


def test_each_row_is_measured_under_the_poolings_it_allows() -> None:
    text = FILE.replace('pools = ["branch"]', 'pools = ["norm", "attention", "branch", "bilinear"]')
    text += '[[rows]]\nname = "x"\nmethod = "conrec"\nbranch = ["xcorr"]\nset = ["branch.xcorr.clusters=4"]\n'
    text += '[[rows]]\nname = "m"\nmethod = "simclr"\nbranch = ["xcorr"]\nset = ["branch.xcorr.stages=multi"]\n'
    pools = {run.row.name: run.measure.pools for run in planned_of(text)}
    assert pools == {
        "plain": ("norm",),
        "fitted": ("norm", "branch", "bilinear"),
        "x": ("norm", "attention", "branch"),
        "m": ("norm",),
    }
    steps = planned_of(text)[1].measure.steps
    assert steps[0] == Step("probe", (Linear(), Retrieval()), None)
    assert [step.pool for step in steps if step.command == "heatmap"] == ["norm", "branch"], "bilinear has no weights"


def test_names_of_scores_under_a_pooling_and_back() -> None:
    assert under_pool("last/rank accuracy: corner", "branch") == "last@branch/rank accuracy: corner"
    assert under_pool("best_test/monitor", "norm") == "best_test@norm/monitor", "nothing has that name"
    for score in ("last/linear", "best_val/monitor"):
        assert without_pool(score) == (score, None)
        assert without_pool(under_pool(score, "branch")) == (score, "branch")


def test_one_command_after_the_other_until_all_is_measured(tmp_path: Path) -> None:
    planned = planned_of()[1]
    run = create_run(tmp_path / "r", RUN, overwrite=False)
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / "last.pt").touch()
    run.append_metrics({"epoch": 2, "val": 0.5, "test": 0.6})

    def command() -> list[str] | None:
        assert (read_scores(run, epochs=2, measure=planned.measure) is None) == (due(run, planned) is not None)
        return due(run, planned)

    def write(stem: str, name: str, *rows: dict[str, Any], **more: Any) -> None:
        write_json(run.results / f"{stem}.json", result(name, list(rows), **{**MADE, **more}))

    probe = ["probe", planned.name, "--no-baselines", "--retrieval"]
    assert command() == [*probe, "--device", "cpu"]
    write("linear-tuned-last", "linear", linear(ENCODER, 0.7), protocol="tuned")
    assert command() == [*probe, "--device", "cpu"], "no retrieval yet"
    write("retrieval-last", "retrieval", retrieval(ENCODER, 0.4))
    assert command() == [*probe, "--pool", "branch", "--device", "cpu"]
    branch = {"checkpoint": "last@branch"}
    write("linear-tuned-last@branch", "linear", linear(ENCODER, 0.8), protocol="tuned", **branch)
    write("retrieval-last@branch", "retrieval", retrieval(ENCODER, None), **branch)
    maps = ["heatmap", planned.name, "--maps", "attention", "--perturb", "0", "--pool", "branch", "--device", "cpu"]
    assert command() == maps
    others: dict[str, dict[str, Any]] = {
        "": {"options": Heatmap(maps=("cam",), perturb=0).options},
        "-2": {"options": replace(MAPS, n=4).options},
        "-other": {"data_hash": "other"},
        "-fixed": {"seed": 1},
    }
    for stem, other in others.items():
        write(f"heatmap-last@branch{stem}", "heatmap", heatmap(), **{"options": MAPS.options, **branch, **other})
        assert command() == maps, "that is a map of the user's own"
    write("heatmap-last@branch-0", "heatmap", {}, options=MAPS.options, **branch)  # made by no command
    write("heatmap-last@branch-3", "heatmap", heatmap(), options=MAPS.options, **branch)
    assert command() is None
    scores = read_scores(run, epochs=2, measure=planned.measure)
    assert scores is not None
    assert {name: score.value for name, score in scores.items()} == {
        "last/linear": 0.7,
        "last/rank-1": 0.4,
        "last/mAP": 0.3,
        "last@branch/linear": 0.8,
        "last@branch/mAP": 0.3,
        "last@branch/rank accuracy: corner": 0.1,
        "last@branch/AUROC: corner": 0.8,
        "last/monitor": 0.6,
        "best_val/monitor": 0.6,
        "best_test/monitor": 0.6,
    }


def due(run: Run, planned: PlannedRun) -> list[str] | None:
    return next(iter(commands_left(run, planned, data="d.h5", device="cpu")), None)


def test_a_finished_run_without_checkpoints_is_never_trained_over(tmp_path: Path) -> None:
    planned = planned_of()[0]
    content = {"state": "finished", "config": planned.config.to_dict(), "dataset": {"path": "d.h5", "hash": "0"}}
    run = create_run(tmp_path / "r", content, overwrite=False)
    with pytest.raises(ValueError, match=r"finished and not yet measured, found none; leave \[measure\] as it was"):
        check_run(run, planned, "0")
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / "last.pt").touch()
    check_run(run, planned, "0")


def test_a_missing_measurement_does_not_hide_the_linear_probe(tmp_path: Path) -> None:
    planned = planned_of()[0]
    run = create_run(tmp_path / "r", RUN, overwrite=False)
    run.append_metrics({"epoch": 2, "val": 0.5, "test": 0.6})
    write_json(
        run.results / "linear-tuned-last.json", result("linear", [linear(ENCODER, 0.7)], **MADE, protocol="tuned")
    )
    found = _run(planned, run, Outcome("failed", "error: no map"))
    assert (found["state"], found["scores"]["last/linear"].value) == ("failed", 0.7)
    assert "last/rank-1" not in found["scores"]


def test_baselines_of_retrieval_are_asked_for_too(tmp_path: Path) -> None:
    planned = planned_of()[0]
    run = create_run(tmp_path / "r", RUN, overwrite=False)
    for protocol in ("tuned", "fixed"):
        rows = [linear(ENCODER, 0.7), linear(CHANCE, 0.25)]
        write_json(run.results / f"linear-{protocol}-last.json", result("linear", rows, **MADE, protocol=protocol))
    asked = ["probe", planned.name, "--retrieval", "--device", "cpu"]
    assert next_baselines(run, planned, device="cpu") == asked
    assert next_baselines(run, replace(planned, measure=Measure()), device="cpu") is None
    rows = [retrieval(ENCODER, 0.4)]
    for further, left in ((None, asked), (retrieval(CHANCE, 0.1), None)):
        kept = [*rows, *([further] if further else [])]
        write_json(run.results / "retrieval-last.json", result("retrieval", kept, **MADE))
        assert next_baselines(run, planned, device="cpu") == left


def test_a_monitor_of_neighbours_has_no_linear_baselines(tmp_path: Path) -> None:
    planned = replace(planned_of()[0], measure=Measure())
    run = create_run(tmp_path / "r", RUN, overwrite=False)
    rows = [linear(ENCODER, 0.7), linear(CHANCE, 0.25)]
    write_json(run.results / "linear-tuned-last.json", result("linear", rows, **MADE, protocol="tuned"))
    fixed = ["probe", planned.name, "--protocol", "fixed", "--device", "cpu"]
    assert next_baselines(run, planned, device="cpu") == fixed
    other = replace(planned.config, train=replace(planned.config.train, monitor="knn"))
    assert next_baselines(run, replace(planned, config=other), device="cpu") is None


def test_an_interval_of_kappa_may_go_below_zero(tmp_path: Path) -> None:
    score = {"mean": -0.1, "ci": None, "pooled": -0.1, "pooled_ci": None}
    row = {"name": "it", "kind": "encoder", "metric": "kappa", "folds": 2, "repeats": 1, "n": 9}
    rows = [row | {"decodings": {"plain": {"kappa": score}}}]
    (name,) = CrossValidation(metric="kappa").main_scores(rows[0]).items()
    assert name == ("cross-validated kappa, plain", Score(-0.1, None, -1.0))
    assert _intervals({"k": {0: -0.1, 1: 0.1}}, {"k": -1.0})["k"]["ci"] == [-1.0, pytest.approx(1.0)]
    assert _intervals({"k": {0: -0.1, 1: 0.1}}, {})["k"]["ci"][0] == 0.0


def test_an_import_is_the_file_of_the_import_command(tmp_path: Path) -> None:
    digits = sweep_of(FILE.replace("size = 8\n", "")).datasets[1]
    info = build(digits, None, tmp_path / "a.h5")
    assert probekit("import", "digits", "--out", "b.h5", cwd=tmp_path).exit_code == 0
    assert info.content_hash == read_info(tmp_path / "b.h5").content_hash
    data = describe(digits, None, info, tmp_path / "a.h5", Measure())
    assert (data.origin, data.n_train, data.n_test) == ("imported: digits, 32 px, seed 0", 1438, 359)
    assert not data.evidence


def test_the_shipped_branches_are_what_the_issue_asks_for() -> None:
    """Five methods, each with none, lcr, xcorr; every control differs from its row in one setting; order and pairs."""
    sweep = load("branches")
    rows = {row.name: row for row in sweep.rows}
    methods = ("simclr", "moco-v2", "byol", "simsiam", "swav")
    assert {f"{method}-{branch}" for method in methods for branch in ("none", "lcr", "xcorr")} <= rows.keys()
    assert [name.rpartition("-")[0] for name in list(rows)[:2]] == ["moco-v2", "moco-v2"]

    def settings(row: Row) -> dict[str, Any]:
        kind = get(METHODS, "method", row.method)
        config = resolve(row.method, kind, preset="quick", seed=0, overrides=row.settings, branches=row.branches)
        return {f"{branch}.{key}": value for branch, own in config.branches.items() for key, value in own.items()}

    changed = {}
    for full in ("moco-v2-lcr", "swav-xcorr"):
        for name, row in rows.items():
            if name.startswith(f"{full}-"):
                ours, theirs = settings(rows[full]), settings(row)
                assert ours.keys() == theirs.keys()
                changed[name] = {key: value for key, value in theirs.items() if value != ours[key]}
                assert any(name in pair[0] and pair[1].startswith(full) for pair in sweep.pairs)
    assert changed == {
        "moco-v2-lcr-uniform": {"lcr.target": "uniform"},
        "moco-v2-lcr-shuffled": {"lcr.target": "shuffled"},
        "moco-v2-lcr-minmax": {"lcr.cam_scale": "minmax"},
        "moco-v2-lcr-neg": {"lcr.cam_sign": "neg_loss"},
        "swav-xcorr-mu0": {"xcorr.mu": 0.0},
        "swav-xcorr-cls0": {"xcorr.cls": 0.0},
        "swav-xcorr-uniform": {"xcorr.mask": "uniform"},
        "swav-xcorr-random": {"xcorr.sampling": "random"},
    }
    for method in methods:
        none = settings(rows[f"{method}-none"])
        assert [value for key, value in none.items() if key.endswith(".weight")] == [0.0]
        for branch in ("lcr", "xcorr"):
            assert (f"{method}-{branch}", f"{method}-none") in sweep.pairs


def test_pairs_that_a_recipe_trains_differently_are_named() -> None:
    """Preset paper: LCR has batches of 128, XCorr on SwAV of 2048; with their own branch at weight 0 rows are alike."""

    def lines(preset: str, *settings: str) -> dict[str, str]:
        sweep = with_settings(load("branches"), settings)
        told = uneven_pairs(sweep, plan_runs(sweep, "b", preset=preset, epochs=3, seeds=[0]))
        return {line.split("the pair ")[1].split(" differs")[0]: line.split(": ", 2)[2] for line in told}

    assert lines("quick") == {}
    found = lines("paper", "optimizer.weight_decay=0")
    assert "train.batch_size 128 and 2048" in found["swav-lcr, swav-none"]
    assert "optimizer.lr 0.2 and 0.3" in found["byol-xcorr, byol-none"]
    within = [f"{row}, {row.split('-')[0]}-none" for row in ("swav-xcorr", "byol-lcr", "simclr-lcr")]
    assert not {*within, "swav-xcorr-mu0, swav-xcorr", "moco-v2-lcr@branch, moco-v2-none"} & found.keys()
    assert "simclr-xcorr, simclr-none" not in lines("paper", "train.batch_size=256"), "epochs are typed, too"


def test_the_whole_path_with_a_branch(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(FILE)
    done = probekit("sweep", "small.toml", "--epochs", "1", "--preset", "quick", "--only", "rt", cwd=tmp_path)
    assert done.exit_code == 0, done.output or done.exception
    assert "fitted@branch" in done.stdout
    found = json.loads((tmp_path / "sweeps/small/results.json").read_text())
    assert found["finished"] == 2
    assert [data["evidence"] for data in found["datasets"]] == [True], "the other is made when a run of it is due"
    scores = {row["row"]: row["scores"] for row in found["rows"] if row["dataset"] == "rt"}
    own = {"last/linear", "last/monitor", "best_val/monitor", "best_test/monitor", "last/rank-1", "last/mAP"}
    maps = {
        f"last@branch/{score}: {factor}" for score in ("rank accuracy", "AUROC") for factor in ("corner", "triangle")
    }
    assert scores["plain"].keys() == own
    assert scores["fitted"].keys() == own | {"last@branch/linear", "last@branch/rank-1", "last@branch/mAP"} | maps
    run = json.loads((tmp_path / "runs/small-rt-fitted-seed0/run.json").read_text())
    assert run["config"]["branches"]["lcr"]["k"] == 3
    beside = {(entry["name"], entry["score"]) for entry in found["baselines"]}
    assert {("chance", "rank-1"), ("random weights", "mAP"), ("centre", "AUROC: corner")} <= beside
    assert {("ceiling", "rank accuracy: triangle"), ("random weights@branch", "rank accuracy: corner")} <= beside
    assert len(beside) == len(found["baselines"]), "each once"
    pair = next(pair for pair in found["pairs"] if pair["b"] == "plain" and pair["score"] == "last/rank-1")
    means = [scores[row][f"last{pool}/rank-1"]["mean"] for row, pool in (("fitted", "@branch"), ("plain", ""))]
    assert pair["mean"] == pytest.approx(means[0] - means[1])
    table = (tmp_path / "sweeps/small/table.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    columns = lines[0]
    assert columns[-1] == "rank accuracy: triangle"
    by_row = {line[0]: dict(zip(columns, line, strict=False)) for line in reversed(lines)}
    assert by_row["fitted@branch"]["rank-1"] == f"{100 * means[0]:.1f}"
    assert by_row["fitted"]["rank accuracy: corner"] == by_row["fitted@branch"]["last, monitor"] == "-"
    later = probekit("sweep", "small.toml", "--resume", "--only", "real", "--limit-minutes", "0", cwd=tmp_path)
    assert "0 of 2 runs finished" in str(later.exception)
    found = json.loads((tmp_path / "sweeps/small/results.json").read_text())
    assert [(data["evidence"], data["n_train"]) for data in found["datasets"]] == [(True, 16), (False, 1438)]
    assert by_row["*uniform*"]["AUROC: corner"] == "50.0"
    (tmp_path / "small.toml").write_text(FILE.replace("branch.lcr.k=3", "branch.lcr.k=4"))
    done = probekit("sweep", "small.toml", "--resume", cwd=tmp_path)
    assert "was started with other rows" in str(done.exception)
