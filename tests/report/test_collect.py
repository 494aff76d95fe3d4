"""What is read from run folders, sound and unsound. Alone: pytest tests/report/test_collect.py."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probekit.report import SCHEMA, html, shapes
from probekit.report.build import build
from probekit.report.collect import collect
from probekit.report.section_shapes import SECTIONS
from probekit.report.shapes import HEATMAP, PROBE, Absent, Each, Maybe, mismatch
from probekit.run import Run, to_json
from tests.datasets import small_shapes
from tests.report.folders import heatmap_result, make_run, probe_result

pytestmark = pytest.mark.usefixtures("plain_pictures")


def test_everything_is_read(tmp_path: Path) -> None:
    content = collect([make_run(tmp_path, heatmap=True)])
    assert content["schema"] == SCHEMA
    assert content["comparison"] is None
    (run,) = content["runs"]
    assert (run["name"], run["config"]["method"], run["state"]) == ("conrec-a", "conrec", "finished")
    assert [line["epoch"] for line in run["metrics"]] == [1, 2, 3, 4, 5]
    assert [probe["protocol"] for probe in run["probes"]] == ["val"]
    assert [found["n"] for found in run["heatmaps"]] == [200]
    assert [picture["kind"] for picture in run["pictures"]] == ["heatmap", "reconstruction"]
    assert json.loads(to_json(content)) == content


def test_the_first_probe_is_that_of_the_runs_own_data(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    other = probe_result(run.name, "data/other.h5", "cd" * 32, ("a", "b"), 1.0, 40, 0)
    (run.results / "probe-val-last-other.json").write_text(to_json(other))
    found = collect([run])
    assert [probe["data"] for probe in found["runs"][0]["probes"]] == ["data/rect-tri.h5", "data/other.h5"]
    (run.results / "probe-val-last.json").unlink()
    assert "of 40 test images of data/other.h5 right" in html.render(build(collect([run])))


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
    assert (run["metrics"], run["probes"], run["heatmaps"], run["pictures"]) == ([], [], [], [])


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
        ("{}", "expected the key run"),
        ("[" * 100_000, "expected JSON"),
    ],
)
def test_an_unsound_file_is_named_and_left_out(text: str, told: str, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run.results / "probe-paper-last.json").write_text(text)
    (found,) = collect([run])["runs"]
    assert len(found["probes"]) == 1
    (line,) = [line for line in found["left_out"] if "probe-paper" in line]
    assert told in line


def broken(**changes: Any) -> dict[str, Any]:
    content = probe_result("r", "d.h5", "ab", ["a", "b"], 1.0, 20, 0)
    content["rows"][0] |= changes
    return content


@pytest.mark.parametrize(
    "changes",
    [
        {"accuracy": "<b>"},
        {"accuracy": None},
        {"accuracy": True},
        {"ci": [0.1]},
        {"confusion": [[1, 2]]},
        {"classes": ["a", 2]},
        {"predicted": [0, 1]},
        {"labels": "0101"},
        {"health": {"n": 3}},
        {"factors": []},
        {"n": 1.5},
        {"accuracy": 1.5},
        {"accuracy": 10**400},
        {"ci": [-0.1, 0.5]},
        {"confusion": [[-1, 11], [5, 5]]},
        {"predicted": [99] * 20},
        {"log_loss_ci": 1e300},
        {"top5_ci": [0.5]},
        {"macro_f1_ci": "<b>"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_probe_of_another_shape_is_left_out(changes: dict[str, Any], tmp_path: Path) -> None:
    run = Run(make_run(tmp_path, full=False).path)
    (run.results / "probe-val-last.json").write_text(json.dumps(broken(**changes)))
    (found,) = collect([run])["runs"]
    assert found["probes"] == []
    assert any("probe-val-last.json was not used" in line for line in found["left_out"])


SWAP: dict[str, Any] = {"n": 0, "undefined": 5, "misordered": 0, "score": None, "x": [], "y": []}
RANDOM: dict[str, Any] = {"passes": None, "similarity": None, "null": None, "cascade": [], "stages": [], "n": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": []},
        {"masks": []},
        {"row": {"grid": []}},
        {"row": {"scores": {}}},
        {"row": {"swap": {"corner": SWAP}}},
        {"row": {"swap": {"corner": SWAP | {"x": [1]}}}},
        {"row": {"randomisation": RANDOM}},
        {"row": {"kind": "other", "name": "same", "target": ""}},
    ],
    ids=str,
)
def test_a_heatmap_file_may_lack_much(changes: dict[str, Any], tmp_path: Path) -> None:
    run = make_run(tmp_path, heatmap=True)
    content = heatmap_result("r", "d.h5", "ab")
    for row in content["rows"]:
        row |= changes.get("row", {})
    content |= {key: value for key, value in changes.items() if key != "row"}
    (run.results / "heatmap.json").write_text(json.dumps(content))
    found = collect([run])
    assert len(found["runs"][0]["heatmaps"]) == 1
    assert "Heatmaps" in html.render(build(found))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.metrics.write_bytes(b"\xff\xfe")
    (run.results / "probe-folder.json").mkdir()
    (run.figures / "heatmap-gone.png").symlink_to("nowhere.png")
    found = collect([run])
    assert [Path(line.split()[0]).name for line in found["runs"][0]["left_out"]] == [
        "rect-tri.h5",
        "metrics.jsonl",
        "probe-folder.json",
    ]
    assert "No finished epoch yet" in html.render(build(found))


def test_metrics_of_another_shape_are_no_curves(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.metrics.write_text(
        '{"epoch": 1}\n[1]\n{"epoch": 2, "loss": "x", "val": 1e999}\n{"epoch": 3, "loss": 1, "f": true}\n'
    )
    found = collect([run])
    assert found["runs"][0]["metrics"] == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3, "loss": 1}]
    html.render(build(found))


def test_the_shapes_are_those_that_the_commands_write() -> None:
    assert mismatch(probe_result("r", "d.h5", "ab", ["a", "b"], 1.0, 20, 0), PROBE) is None
    assert mismatch(heatmap_result("r", "d.h5", "ab"), HEATMAP) is None


def test_a_key_that_may_be_absent_has_a_shape_where_it_is_there() -> None:
    folder = Path(shapes.__file__).parent
    asked = {
        name
        for file in ("probing.py", "further.py")
        for name in re.findall(r'\b(?:row|found|result)\.get\("(\w+)"', (folder / file).read_text())
    }
    assert {"log_loss_ci", "top5", "ap_ci"} <= asked
    assert asked - {"health"} <= set(keys([PROBE, list(SECTIONS.values())]))  # that of health is looked at apart


def keys(shape: Any) -> Iterator[str]:
    """Every key of a shape, however deep."""
    if isinstance(shape, Maybe | Each | Absent):
        yield from keys(shape.shape)
    elif isinstance(shape, list):
        yield from (key for inner in shape for key in keys(inner))
    elif isinstance(shape, dict):
        yield from shape
        yield from (key for inner in shape.values() for key in keys(inner))


def test_an_older_probe_is_read(tmp_path: Path) -> None:
    run = make_run(tmp_path, full=False)
    content = broken()
    for row in content["rows"]:
        for key in ("health", "predicted", "labels"):
            row.pop(key, None)
    (run.results / "probe-val-last.json").write_text(json.dumps(content))
    assert len(collect([run])["runs"][0]["probes"]) == 1


def test_another_run_json_is_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.update(config={"method": 3, "seed": 0, "train": {"eval_every": 1}})
    with pytest.raises(ValueError, match=r"expected the text config.method in .*run.json"):
        collect([run])
