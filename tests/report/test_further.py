"""The section of protocols beside the linear probe, sound and unsound.

Alone: pytest tests/report/test_further.py
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from probekit.output.document import Table
from probekit.report import html, markdown
from probekit.report.build import build
from probekit.report.collect import collect
from probekit.report.compare import RANK1, answered
from probekit.report.compare_scores import compare_scores
from probekit.report.comparison import comparison_chapter
from probekit.report.section_shapes import SECTIONS
from probekit.report.shapes import mismatch
from probekit.statistics import holm
from tests.report.folders import HOSTILE, make_run
from tests.report.further import add_further, further_results

pytestmark = pytest.mark.usefixtures("plain_pictures")


def test_the_shapes_are_those_that_the_functions_give() -> None:
    for stem, content in further_results("a").items():
        assert mismatch(content, SECTIONS[stem.split("-")[0]]) is None, stem


def test_every_protocol_has_a_table_that_says_how(tmp_path: Path) -> None:
    page = html.render(build(collect([add_further(make_run(tmp_path, "a"))])))
    titles = re.findall(r"<h4[^>]*>(.*?)</h4>", page)
    for title in (
        "Fractions of the labels",
        "Accuracy by number of labels",
        "Nearest neighbours",
        "Retrieval",
        "What nearest neighbours share",
        "Cross-validation",
        "Mean average precision",
        "Of each class, conrec last",
        "Along pretraining",
        "Along pretraining: linear",
    ):
        assert any(found.startswith(title) for found in titles), title
    blocks = re.split(r"<div class=\"block\"|<figure id", page.split("Further protocols</h3>")[1].split("<h3")[0])[1:]
    assert len(blocks) == 8 + 3  # tables; the curve of fractions and two along epochs
    for block in blocks:
        assert "Made up for a test" in block
        assert "probekit probe a --" in block


def test_notes_stand_under_each_protocol(tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a"))
    for path in run.results.glob("*.json"):
        noted = json.loads(path.read_text()) | {"notes": [f"{path.stem.partition('-')[0]} has no random weights"]}
        path.write_text(json.dumps(noted))
    linear, further = markdown.render(build(collect([run]))).split("Further protocols")
    for stem in further_results("a"):
        assert further.count(f"{stem.partition('-')[0]} has no random weights") == 1, stem
    assert linear.count("probe has no random weights") == 1


def test_values_reach_the_tables(tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a"))
    text = markdown.render(build(collect([run])))
    found = further_results("a")
    knn = found["knn-last"]["rows"][0]
    assert f"| conrec last | {100 * knn['accuracy']:.1f} |" in text
    cv = found["cv-val-last"]["rows"][0]["decodings"]["cumulative"]["kappa"]
    assert f"{cv['mean']:.3f} \\[{cv['ci'][0]:.3f}, {cv['ci'][1]:.3f}\\]" in text
    score = found["retrieval-last"]["rows"][0]["scores"]["map"]
    assert f"{100 * score['value']:.1f} \\[{100 * score['ci'][0]:.1f}, {100 * score['ci'][1]:.1f}\\]" in text


def test_what_was_not_measured_is_a_command(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    asked = "--fractions 1,2,5,10,20,50,100 --knn --retrieval --cv 5"
    assert f"{asked} --every" not in (text := markdown.render(build(collect([run])))), "it kept no encoder to follow"
    assert asked in text
    config = run.read()["config"]
    run.update(config=config | {"train": config["train"] | {"keep_every": 2}})
    assert f"{asked} --every" in markdown.render(build(collect([run])))


def test_images_of_several_labels_are_not_sent_to_the_linear_probe(tmp_path: Path) -> None:
    runs = [add_further(make_run(tmp_path, name)) for name in "ab"]
    for run in runs:
        for path in run.results.glob("*.json"):
            if not path.name.startswith("multilabel"):
                path.unlink()
    found = collect(runs)
    text = markdown.render(build(found))
    assert "Images have several labels" in text
    assert not re.search("[Nn]ot probed|Not measured|No spectrum", text)
    assert found["comparison"]["groups"] == []
    assert found["comparison"]["left_out"] == []
    (group,) = found["comparison"]["scores"]
    assert group["what"] == "multilabel"
    assert [score["score"] for score in group["scores"]] == ["mAP, voc2007", "mAP, voc2010", "mAP, step"]


def test_scores_of_no_single_images_are_paired_by_seed(tmp_path: Path) -> None:
    runs = [
        add_further(make_run(tmp_path, f"{method}{seed}", method=method, seed=seed), seed=10 * k + seed)
        for k, method in enumerate(("simclr", "conrec"))
        for seed in range(3)
    ]
    content = collect(runs)
    groups = {group["what"]: group for group in content["comparison"]["scores"]}
    assert groups.keys() == {"fractions", "cv", "multilabel", "retrieval"}
    assert groups["cv"]["protocol"] == "val, 1 x 3 folds"
    kappa = next(score for score in groups["cv"]["scores"] if score["score"] == "kappa, cumulative")
    values: dict[str, list[float]] = {"simclr": [], "conrec": []}
    for k, method in enumerate(values):
        for seed in range(3):
            row = further_results("", seed=10 * k + seed)["cv-val-last"]["rows"][0]
            values[method].append(row["decodings"]["cumulative"]["kappa"]["mean"])
    (pair,) = kappa["over_seeds"]["pairs"]
    expected = ttest_rel(values["simclr"], values["conrec"])
    assert pair["mean"] == pytest.approx(np.mean(values["simclr"]) - np.mean(values["conrec"]))
    assert pair["ci"] == pytest.approx(list(expected.confidence_interval(0.95)))
    assert {row["run"] for row in kappa["runs"]} == {run.name for run in runs}
    text = markdown.render(build(content))
    assert "Cross-validation on train: data/rect-tri.h5" in text
    assert "paired by seed alone" in text


def test_runs_are_also_compared_by_neighbours_and_rank1(tmp_path: Path) -> None:
    runs = [add_further(make_run(tmp_path, name, method=name), seed=i) for i, name in enumerate("ab")]
    content = collect(runs)
    groups = {group["protocol"]: group for group in content["comparison"]["groups"]}
    assert groups.keys() == {"val", "knn", RANK1}
    rows = [further_results(name, seed=i)["retrieval-last"]["rows"][0] for i, name in enumerate("ab")]
    right = [np.array(row["predicted"]) == np.array(row["labels"]) for row in rows]
    pair = groups[RANK1]["pairs"][0]
    assert pair["difference"] == pytest.approx(right[0].mean() - right[1].mean())
    assert (pair["only_a"], pair["only_b"]) == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
    for row, found in zip(rows, groups[RANK1]["runs"], strict=True):
        assert found["accuracy"] == pytest.approx(row["scores"]["rank1"]["value"])
    assert "Weighted nearest neighbours in train" in html.render(build(content))


def test_holm_covers_all_scores_of_a_question() -> None:
    rng = np.random.default_rng(0)
    about = {"data": "d", "data_hash": "h", "protocol": "val", "checkpoint": "last", "epoch": 1, "after": "epoch 1"}
    runs: list[dict[str, Any]] = []
    for name, shift in (("a", 0.0), ("b", 0.2)):
        for seed in range(6):
            means = {metric: {"mean": shift + rng.uniform(0, 0.3), "ci": None} for metric in ("kappa", "accuracy")}
            row = {"name": "e", "kind": "encoder", "repeats": 1, "folds": 3, "decodings": {"plain": means}}
            runs.append({"name": f"{name}{seed}", "cv": [{**about, "rows": [row]}]})
    labels = {run["name"]: run["name"][0] for run in runs}
    (group,) = compare_scores(runs, labels, {name: {"seed": int(name[1])} for name in labels})
    family = [p for score in group["scores"] for p in score["over_seeds"]["pairs"]]
    assert len(family) == 2
    assert [p["p_holm"] for p in family] == pytest.approx(holm([p["p"] for p in family]))
    assert family[0]["p_holm"] > family[0]["p"] or family[1]["p_holm"] > family[1]["p"]


def test_every_table_of_runs_says_how_far_each_was(tmp_path: Path) -> None:
    runs = [add_further(make_run(tmp_path, name, method=name)) for name in "ab"]
    content = json.loads(runs[1].json.read_text())
    config = content["config"] | {"train": content["config"]["train"] | {"epochs": 400}}
    runs[1].json.write_text(json.dumps(content | {"state": "interrupted", "config": config}))
    report = collect(runs)
    found = report["comparison"]
    tables = [group["runs"] for group in found["groups"]]
    tables += [score["runs"] for group in found["scores"] for score in group["scores"]]
    assert len(tables) > 6
    for a, b in tables:
        assert a["after"] == f"epoch {a['epoch']}"
        assert b["after"] == f"epoch {b['epoch']} of 400, interrupted"
    blocks = [block for section in comparison_chapter(report).sections for block in section.blocks]
    shown = [block for block in blocks if isinstance(block, Table) and block.title == "Runs"]
    assert len(shown) == len(found["groups"]) + len(found["scores"])
    for table in shown:
        told = [row[table.columns.index("epoch")].text for row in table.rows]
        assert told == [f"{b['epoch']}", f"{b['epoch']} of 400, interrupted"]


def test_holm_covers_the_methods_that_seeds_test(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, f"{method}{seed}", method=method, seed=seed, noise=noise)
        for method, noise in (("simclr", 1.0), ("conrec", 0.3), ("conrec-gap", 0.9))
        for seed in range(6)
    ]
    pairs = collect(runs)["comparison"]["groups"][0]["over_seeds"]["pairs"]
    raw = sorted(pair["p"] for pair in pairs)
    adjusted = [max(min(1.0, (3 - j) * raw[j]) for j in range(i + 1)) for i in range(3)]
    assert sorted(pair["p_holm"] for pair in pairs) == pytest.approx(adjusted)


BREAKS: dict[str, Any] = {
    "fractions-val-last": lambda c: c["rows"][0]["points"].append({"n": 3}),
    "knn-last": lambda c: c["rows"][0].update(ci=[0.1]),
    "retrieval-last": lambda c: c["rows"][0].update(labels=[0]),
    "cv-val-last": lambda c: c.update(rows=[]),
    "multilabel-val-last": lambda c: c["rows"][0].pop("map"),
    "every-val": lambda c: c["points"].append(c["points"][0]),
}


@pytest.mark.parametrize("stem", BREAKS)
def test_an_unsound_file_is_named_and_left_out(stem: str, tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a"))
    content = json.loads((run.results / f"{stem}.json").read_text())
    BREAKS[stem](content)
    (run.results / f"{stem}.json").write_text(json.dumps(content))
    found = collect([run])
    assert found["runs"][0][stem.split("-")[0]] == []
    assert any(f"{stem}.json was not used" in line for line in found["runs"][0]["left_out"])
    html.render(build(found))


LACKS: dict[str, Any] = {
    "no fingerprint": ("retrieval-last", lambda row: row.update(fingerprint={})),
    "no monitor": ("knn-last", lambda row: row.update(monitor=[])),
    "no point": ("fractions-val-last", lambda row: row.update(points=[])),
    "no score": ("retrieval-last", lambda row: row.update(scores={})),
    "no decoding": ("cv-val-last", lambda row: row.update(decodings={})),
    "no class": ("multilabel-val-last", lambda row: row.update(per_class=[], map={})),
    "another share": ("fractions-val-last", lambda row: row.update(complexity={})),
    "no interval": ("multilabel-val-last", lambda row: row["map"]["step"].update(ci=None)),
    "no prediction": ("retrieval-last", lambda row: row.pop("predicted", None)),
}


@pytest.mark.parametrize("which", LACKS)
def test_a_file_may_lack_much(which: str, tmp_path: Path) -> None:
    stem, change = LACKS[which]
    runs = [add_further(make_run(tmp_path, name)) for name in "ab"]
    content = json.loads((runs[0].results / f"{stem}.json").read_text())
    for row in content["rows"]:
        change(row)
    (runs[0].results / f"{stem}.json").write_text(json.dumps(content))
    found = collect(runs)
    assert len(found["runs"][0][stem.split("-")[0]]) == 1
    html.render(build(found))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a"), classes=HOSTILE[:4], data=f"data/{HOSTILE[0]}.h5")
    for path in run.results.glob("*.json"):
        text = path.read_text()
        for plain, bad in zip(("conrec last", "angle", "linear", "val"), HOSTILE, strict=False):
            text = text.replace(f'"{plain}"', json.dumps(bad))
        path.write_text(text)
    page = html.render(build(collect([run])))
    assert "What nearest neighbours share" in page
    for bad in HOSTILE[:2]:
        assert bad not in page
    assert "onerror='window" not in page


def test_rank1_counts_the_queries_that_have_a_relevant_image() -> None:
    row = {"name": "conrec last", "kind": "encoder", "labels": [0, 0, 1], "predicted": [0, 1, 0]}
    (found,) = answered({"probes": [], "retrieval": [{"rows": [row]}]})
    assert (found["protocol"], found["rows"][0]["n"], found["rows"][0]["accuracy"]) == (RANK1, 2, 0.5)
    assert answered({"probes": [], "retrieval": [{"rows": [row | {"labels": [0, 1, 2]}]}]}) == []
