"""What is read from run folders, sound and unsound. Alone: pytest tests/reports/test_collect.py."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from probekit.probes.measurements.knn import KNN
from probekit.registry import MEASUREMENTS
from probekit.reports import SCHEMA
from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.page import html, markdown
from probekit.run import Run, to_json
from tests.datasets import small_shapes
from tests.reports.folders import heatmap_result, linear_result, make_run

pytestmark = pytest.mark.usefixtures("plain_pictures")


def test_everything_is_read(tmp_path: Path) -> None:
    content = collect([make_run(tmp_path, heatmap=True)])
    assert content["schema"] == SCHEMA
    assert content["comparison"] is None
    (run,) = content["runs"]
    assert (run["name"], run["config"]["method"], run["state"]) == ("conrec-a", "conrec", "finished")
    assert [line["epoch"] for line in run["metrics"]] == [1, 2, 3, 4, 5]
    kept = {name: results for name, results in run["results"].items() if results}
    assert [(name, len(results)) for name, results in kept.items()] == [("linear", 1), ("health", 1), ("heatmap", 1)]
    assert list(run["results"]) == list(MEASUREMENTS)
    (linear,), (heatmap,) = kept["linear"], kept["heatmap"]
    assert linear == {
        **json.loads(Path(linear["file"]).read_text()),
        "file": str(tmp_path / "conrec-a/results/linear-tuned-last.json"),
        "after": "epoch 5",
    }
    assert (linear["protocol"], heatmap["n"]) == ("tuned", 200)
    assert run["pictures"] == [str(tmp_path / "conrec-a/figures/views-rect-tri.png")]
    assert json.loads(to_json(content)) == content


def test_the_first_probe_is_that_of_the_runs_own_data(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    other = linear_result("ab", n=40, run=run.name, data="data/other.h5", data_hash="cd" * 32)
    (run.results / "linear-another.json").write_text(to_json(other))
    found = collect([run])
    assert [probe["data"] for probe in found["runs"][0]["results"]["linear"]] == ["data/rect-tri.h5", "data/other.h5"]
    (run.results / "linear-tuned-last.json").unlink()
    leads = [chapter.lead for chapter in build(collect([run])).chapters]
    assert re.search(r"on rect-tri\. On data/other\.h5: [\d.]+ % of 40 test images right", leads[0])
    html(build(collect([run])))


def test_the_last_weights_and_the_usual_protocol_come_first(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    kept = [("best_val", "tuned"), ("best_val", "fixed"), ("last", "fixed")]
    for number, (checkpoint, protocol) in enumerate(kept):
        result = linear_result(run=run.name, checkpoint=checkpoint, protocol=protocol)
        (run.results / f"a{number}.json").write_text(to_json(result))
    found = collect([run])["runs"][0]["results"]["linear"]
    order = [(result["checkpoint"], result["protocol"]) for result in found]
    assert order == [("last", "tuned"), ("last", "fixed"), *kept[:2]]


def test_the_dataset_is_described_while_it_is_the_same(tmp_path: Path) -> None:
    info = small_shapes(tmp_path / "small.h5")
    same = make_run(tmp_path, "same", data=str(info.path), data_hash=info.content_hash)
    changed = make_run(tmp_path, "changed", data=str(info.path))
    gone = make_run(tmp_path, "gone", data=str(tmp_path / "gone.h5"))
    found = [collect([run])["runs"][0] for run in (same, changed, gone)]
    assert found[0]["data"]["splits"]["train"]["n"] == 32
    assert found[0]["data"]["generator"] == "rect-tri"
    assert [run["data"] for run in found[1:]] == [None, None]
    assert "has changed" in found[1]["left_out"][0]
    assert "is gone" in found[2]["left_out"][0]


def test_a_bare_run_is_no_error(tmp_path: Path) -> None:
    (run,) = collect([make_run(tmp_path, full=False)])["runs"]
    assert (run["metrics"], run["pictures"]) == ([], [])
    assert not any(run["results"].values())


def test_names_stay_apart(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one", "same"), make_run(tmp_path / "two", "same")]
    names = [run["name"] for run in collect(runs)["runs"]]
    assert names == [str(tmp_path / "one/same"), str(tmp_path / "two/same")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "expected JSON"),
        ('{"rows": NaN}', "NaN, which is no JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "expected the schema of a measurement, found None"),
        ('{"schema": ["probekit-linear/1"]}', "expected the schema of a measurement, found ['probekit-linear/1']"),
        ('{"schema": "probekit-lin/1"}', "expected the schema of a measurement, found 'probekit-lin/1'"),
        ('{"schema": "probekit-linear/2"}', "expected the schema probekit-linear/1, found probekit-linear/2, which"),
        (
            '{"schema": "probekit-heatmap/1"}',
            "which another version of probekit wrote; measure again with probekit heat",
        ),
        ('{"schema": "probekit-linear/1"}', "= a string in the file, found nothing"),
        ("[" * 100_000, "expected JSON"),
    ],
)
def test_an_unsound_file_is_named_and_left_out(text: str, told: str, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run.results / "linear-fixed-last.json").write_text(text)
    (found,) = collect([run])["runs"]
    assert len(found["results"]["linear"]) == 1
    (line,) = [line for line in found["left_out"] if "linear-fixed" in line]
    assert told in line
    assert len(line) < 1000


CHANGES: dict[str, Any] = {
    "accuracy": ["<b>", None, True, 1.5, 10**400, -0.1],
    "ci": [[0.1], [0.1, "<b>"], [0.1, 1e300], 3],
    "confusion": [[[1, 2]], [[-1, 11], [5, 5]], [[1, 2], [3]], []],
    "classes": [["a", 2], []],
    "predicted": [[0, 1], [99] * 20, [-1] * 20, [0.5] * 20],
    "labels": ["0101", [0] * 19, [5] * 20],
    "factors": [[], {"a": {"accuracy": 2, "ci": None}}, {"a": {"ci": None}}],
    "n": [1.5, -1, None],
    "dim": [None, -3],
    "C": ["1", 1e300],
    "log_loss": [1e300],
    "log_loss_ci": [1e300],
    "top5": [None, 2],
    "top5_ci": [[0.5]],
    "macro_f1_ci": ["<b>"],
    "name": [3, None],
    "kind": [3, "other"],
    "note": [None],
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_probe_of_another_shape_is_left_out(key: str, tmp_path: Path) -> None:
    run = Run(make_run(tmp_path, full=False).path)
    file = run.results / "linear-tuned-last.json"
    for value in CHANGES[key]:
        content = linear_result("ab", n=20)
        content["rows"][0][key] = value
        file.write_text(json.dumps(content))
        (found,) = collect([run])["runs"]
        assert found["results"]["linear"] == [], value
        assert any("linear-tuned-last.json was not used" in line for line in found["left_out"])


@pytest.mark.parametrize("key", sorted(linear_result("ab", n=20)["rows"][0]))
def test_what_a_row_lacks_is_never_an_error(key: str, tmp_path: Path) -> None:
    """Either the file is left out, or the report does without."""
    run = make_run(tmp_path)
    content = linear_result("ab", n=20)
    del content["rows"][0][key]
    (run.results / "linear-tuned-last.json").write_text(json.dumps(content))
    found = collect([run, make_run(tmp_path, "other")])
    whole, *_ = found["runs"]
    used = [result["rows"][0]["name"] for result in whole["results"]["linear"] if result["protocol"] == "tuned"]
    assert bool(used) != any("linear-tuned-last.json was not used" in line for line in whole["left_out"])
    assert html(build(found)).count("<table") > 0


SWAP: dict[str, Any] = {"n": 0, "undefined": 5, "misordered": 0, "score": None, "x": [], "y": []}
RANDOM: dict[str, Any] = {"passes": None, "similarity": None, "null": None, "cascade": [], "stages": [], "n": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"masks": []},
        {"probe": None},
        {"row": {"perturbation": {}}},
        {"row": {"grid": []}},
        {"row": {"scores": {}}},
        {"row": {"swap": {"corner": SWAP}}},
        {"row": {"swap": {"corner": SWAP | {"x": [1]}}}},
        {"row": {"sanity_check": RANDOM}},
    ],
    ids=str,
)
def test_a_heatmap_file_may_lack_much(changes: dict[str, Any], tmp_path: Path) -> None:
    run = make_run(tmp_path, heatmap=True)
    content = heatmap_result("r", "d.h5", "ab")
    (run.results / "heatmap-last.json").unlink()
    for row in content["rows"]:
        row |= changes.get("row", {})
    content |= {key: value for key, value in changes.items() if key != "row"}
    (run.results / "heatmap-last.json").write_text(json.dumps(content))
    found = collect([run])
    assert len(found["runs"][0]["results"]["heatmap"]) == 1
    assert "Heatmaps" in html(build(found))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.metrics.write_bytes(b"\xff\xfe")
    (run.results / "linear-folder.json").mkdir()
    (run.figures / "heatmap-gone.png").symlink_to("nowhere.png")
    found = collect([run])
    assert [Path(line.split()[0]).name for line in found["runs"][0]["left_out"]] == [
        "rect-tri.h5",
        "metrics.jsonl",
        "linear-folder.json",
    ]
    assert "No finished epoch yet" in html(build(found))


def test_metrics_of_another_shape_are_no_curves(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.metrics.write_text(
        '{"epoch": 1}\n[1]\n{"epoch": 2, "loss": "x", "val": 1e999}\n{"epoch": 3, "loss": 1, "f": true}\n'
    )
    found = collect([run])
    assert found["runs"][0]["metrics"] == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3, "loss": 1}]
    html(build(found))


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": []},
        {"row": {"kind": "other"}},
        {"row": {"kind": "baseline"}},
        {"row": {"name": "same", "target": ""}},
        {"row": {"grid": [1.5]}},
        {"row": {"scores": {"rectangle": {"rank_accuracy": {"mean": "<b>"}}}}},
        {"row": {"swap": {"corner": SWAP | {"x": None}}}},
        {"row": {"sanity_check": RANDOM | {"passes": "yes"}}},
        {"masks": "rectangle"},
        {"left_out": [3]},
        {"chance": {"rectangle": "<b>"}},
        {"probe": {"accuracy": None}},
        {"fill": 3},
    ],
    ids=str,
)
def test_a_heatmap_of_another_shape_is_left_out(changes: dict[str, Any], tmp_path: Path) -> None:
    run = make_run(tmp_path, heatmap=True)
    content = heatmap_result("r", "d.h5", "ab")
    for row in content["rows"]:
        row |= changes.get("row", {})
    content |= {key: value for key, value in changes.items() if key != "row"}
    (run.results / "heatmap-last.json").write_text(json.dumps(content))
    found = collect([run])
    assert found["runs"][0]["results"]["heatmap"] == []
    assert any("heatmap-last.json was not used" in line for line in found["runs"][0]["left_out"])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"config": {"branches": 1e308}}, "expected the table config.branches in .*run.json, found 1e"),
        ({"config": {"method_options": "x"}}, "expected the table config.method_options in .*run.json, found 'x'"),
        ({"dataset": {"name": 3}}, "expected the text dataset.name in .*run.json, found 3"),
    ],
)
def test_a_part_of_run_json_that_is_something_else_is_one_line(
    tmp_path: Path, changes: dict[str, dict[str, Any]], line: str
) -> None:
    run = make_run(tmp_path)
    content = json.loads(run.json.read_text())
    run.json.write_text(json.dumps(content | {key: content[key] | part for key, part in changes.items()}))
    with pytest.raises(ValueError, match=line):
        run.read()


def test_another_run_json_is_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.update(config={"method": 3, "seed": 0, "train": {"eval_every": 1}})
    with pytest.raises(ValueError, match=r"expected the text config.method in .*run.json"):
        collect([run])
    run = make_run(tmp_path, "other")
    run.update(config={"method": "simclr", "seed": 0, "train": {"eval_every": 1, "monitor": []}})
    with pytest.raises(ValueError, match=r"expected config.train.monitor = a string in .*run.json, found \[\]"):
        collect([run])


def test_what_any_command_measures_is_told_as_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KNN, "command", "weigh")
    page = markdown(build(collect([make_run(tmp_path, "a", full=False)]))).replace("\\", "")
    for command in ("probe", "heatmap", "weigh"):
        assert f"`probekit {command} " in page.partition("Not measured yet")[2], command


def test_the_monitors_kappa_is_no_share(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    config = run.read()["config"]
    run.update(config=config | {"train": config["train"] | {"monitor": "kappa"}})
    run.append_metrics({"epoch": 6, "val": -0.25, "test": -0.5})
    page = markdown(build(collect([run])))
    assert "The same in numbers, kappa" in page
    assert re.search(r"\| 6 +\| -0.250 +\| -0.500 +\|", page), page


def test_a_monitor_that_is_not_known_is_told_as_it_is(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, name) for name in "ab"]
    for run in runs:
        config = run.read()["config"]
        run.update(config=config | {"train": config["train"] | {"monitor": "a later one"}})
    assert html(build(collect(runs))).count("metrics.jsonl: a later one, ") == 2 * 2 + 1
