"""The sections of every measurement, and what is compared of it.

Alone: pytest tests/reports/test_further.py
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from probekit.measurement import measurements, read_result
from probekit.output.document import Chart, Table
from probekit.reports.build import about_section, build
from probekit.reports.collect import collect
from probekit.reports.compare import answered, compare_scores
from probekit.reports.comparison import comparison_chapter
from probekit.reports.page import html, markdown
from probekit.statistics import holm
from tests.datasets import small_shapes
from tests.reports.folders import HOSTILE, make_run
from tests.reports.further import add_further, further_results, kept_result

pytestmark = pytest.mark.usefixtures("plain_pictures")


def test_what_a_measurement_gives_is_of_its_shape() -> None:
    found = further_results("a")
    others = {"linear", "health", "heatmap"}  # those of `make_run`
    assert found.keys() == {each.name for each in measurements()} - others
    for name, content in found.items():
        assert read_result(content).name == name


def test_every_measurement_has_a_section_that_says_how(tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a", heatmap=True))
    page = html(build(collect([run])))
    titles = re.findall(r"<h4[^>]*>(.*?)</h4>", page)
    for title in (
        "linear, %, on fractions of the labels",
        "linear by number of labels",
        "Nearest neighbours",
        "Retrieval",
        "What nearest neighbours share",
        "Cross-validation on train",
        "Mean average precision",
        "Each class, conrec last",
        "Linear head by SGD",
        "Along pretraining",
        "Along pretraining: linear",
        "Along pretraining: mAP",
        "Attentive probe",
        "Over depth",
        "Over depth: linear",
        "Nearer to the truth, %",
        "How much is restored",
    ):
        assert any(found.startswith(title) for found in titles), title
    for each in measurements():
        section = page.split(f'<section id="run-0-a-{each.name}">')[1].split("</section>")[0]
        assert f"<h3>{each.title}</h3>" in section
        blocks = re.split(r"<div class=\"block\"|<figure id", section)[1:]
        assert "Maps of 200 images" in section if each.name == "heatmap" else f"test of {each.name}" in section
        assert "encoder after epoch 5; seed 0" in section
        options = {"cv": "folds 3, metric kappa, repeats 1, ", "fractions": "fractions 0.25 0.5 1.0, draws 2, "}
        told = f"{options.get(each.name, '')}checkpoint last, on data/rect-tri.h5"
        assert re.search(rf"Protocol [^ ]*, {told}", section), "what it asked, but for the usual"
        assert f'<p class="again"><code>probekit {each.command} a' in section
        assert section.count("<table>") - section.count('<details class="folded">') <= 1, (
            "after the first they are folded"
        )
        found = kept_result(run, each.name)
        assert len(blocks) == len(each.tables(found)) + len(drawn(each.charts(found)))


def drawn(charts: list[Chart]) -> list[Chart]:
    """Those that a report draws, and the heatmap's gallery, which lies there; that of retrieval does not."""
    return [chart for chart in charts if not chart.photographs or "Maps" in chart.title]


def test_notes_stand_under_each_measurement_and_nowhere_else(tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a", heatmap=True))
    for path in run.results.glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"notes": [f"of {read_result(content).name}: no random weights"]}))
    parts = markdown(build(collect([run]))).split("\n### ")
    for each in measurements():
        noted = [part.partition("\n")[0] for part in parts if f"of {each.name}: no random weights" in part]
        assert noted == [each.title]


def test_values_reach_the_tables(tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a"))
    text = markdown(build(collect([run])))
    found = further_results("a")
    knn = found["knn"]["rows"][0]
    ends = [f"{100 * end:.1f}" for end in knn["ci"]]
    assert f"| conrec last | {100 * knn['accuracy']:.1f} \\[{', '.join(ends)}\\] |" in text
    cv = found["cv"]["rows"][0]["decodings"]["cumulative"]["kappa"]
    assert f"{cv['mean']:.3f} \\[{cv['ci'][0]:.3f}, {cv['ci'][1]:.3f}\\]" in text
    score = found["retrieval"]["rows"][0]["scores"]["map"]
    assert f"{100 * score['value']:.1f} \\[{100 * score['ci'][0]:.1f}, {100 * score['ci'][1]:.1f}\\]" in text


def test_kappa_below_chance_is_said_as_it_is(tmp_path: Path) -> None:
    """It goes down to -1: neither the table, nor the mean over seeds with its interval, ends at 0."""
    runs = [make_run(tmp_path, f"a{seed}", seed=seed) for seed in range(3)]
    values = {"a0": -0.25, "a1": -0.5, "a2": -0.9}
    for run in runs:
        result = further_results(run.name)["cv"]
        fold = result["rows"][0]["decodings"]["plain"]["kappa"]
        fold |= {"mean": values[run.name], "ci": [-1.0, 0.125], "pooled": values[run.name]}
        (run.results / "cv-fixed-last.json").write_text(json.dumps(result))
    content = collect(runs)
    (group,) = [group for group in content["comparison"]["scores"] if group["measurement"] == "cv"]
    (kappa,) = [score for score in group["scores"] if score["score"] == "cross-validated kappa, plain"]
    assert [row["value"] for row in kappa["runs"]] == list(values.values())
    (method,) = kappa["over_seeds"]["methods"]
    ends = sem_ends(list(values.values()))
    assert method["mean"] == pytest.approx(-0.55)
    assert method["ci"] == pytest.approx([max(-1.0, ends[0]), ends[1]])
    text = markdown(build(content))
    assert text.count("-0.250 \\[-1.000, 0.125\\]") == 2, "in its own section and in the comparison"
    assert f"| -0.550 \\[-1.000, {ends[1]:.3f}\\] | 3 |" in text


def sem_ends(values: list[float]) -> tuple[float, float]:
    """The ends of a 95 % Student t interval, by scipy."""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return float(low), float(high)


def test_what_was_not_measured_is_a_command(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    asked = "--fractions 1,2,5,10,20,50,100 --knn --retrieval --cv 5"
    assert f"{asked} --all-checkpoints" not in (text := markdown(build(collect([run])))), "it kept no encoder"
    assert asked in text
    assert "Measure by typing: `probekit heatmap" in text
    config = run.read()["config"]
    run.update(config=config | {"train": config["train"] | {"keep_every": 2}})
    assert f"{asked} --all-checkpoints" in markdown(build(collect([run])))


def test_images_of_several_labels_are_not_sent_to_the_linear_probe(tmp_path: Path) -> None:
    runs = [add_further(make_run(tmp_path, name, heatmap=True)) for name in "ab"]
    for run in runs:
        for path in run.results.glob("*.json"):
            if not path.name.startswith(("multilabel", "heatmap", "exam")):
                path.unlink()
    found = collect(runs)
    text = markdown(build(found))
    assert not re.search("[Nn]ot measured|probekit probe a --[^m]", text)
    assert found["comparison"]["groups"] == []
    assert found["comparison"]["left_out"] == []
    (group,) = [group for group in found["comparison"]["scores"] if group["measurement"] == "multilabel"]
    assert group["measurement"] == "multilabel"
    assert [score["score"] for score in group["scores"]] == ["mAP, voc2010", "mAP, voc2007", "mAP, step"]


def test_scores_of_no_single_images_are_paired_by_seed(tmp_path: Path) -> None:
    runs = [
        add_further(make_run(tmp_path, f"{method}{seed}", method=method, seed=seed), seed=10 * k + seed)
        for k, method in enumerate(("simclr", "conrec"))
        for seed in range(3)
    ]
    content = collect(runs)
    groups = {group["measurement"]: group for group in content["comparison"]["scores"]}
    assert groups.keys() == {
        *(
            "exam",
            "linear",
            "sgd",
            "fractions",
            "knn",
            "cv",
            "multilabel",
            "dense",
            "retrieval",
            "reconstruction",
            "detect",
        )
    }
    assert groups["cv"]["options"] == {"folds": 3, "metric": "kappa", "repeats": 1, "sgd": None}
    kappa = groups["cv"]["scores"][0]
    assert kappa["score"] == "cross-validated kappa, cumulative"
    values: dict[str, list[float]] = {"simclr": [], "conrec": []}
    for k, method in enumerate(values):
        for seed in range(3):
            row = further_results("", seed=10 * k + seed)["cv"]["rows"][0]
            values[method].append(row["decodings"]["cumulative"]["kappa"]["mean"])
    (pair,) = kappa["over_seeds"]["pairs"]
    expected = stats.ttest_rel(values["simclr"], values["conrec"])
    assert pair["mean"] == pytest.approx(np.mean(values["simclr"]) - np.mean(values["conrec"]))
    assert pair["ci"] == pytest.approx(list(expected.confidence_interval(0.95)))
    assert {row["run"] for row in kappa["runs"]} == {run.name for run in runs}
    text = markdown(build(content))
    assert "Cross-validation on train: data/rect-tri.h5" in text
    assert "paired by seed alone" in text


def test_runs_are_compared_by_every_answer_to_single_images(tmp_path: Path) -> None:
    runs = [add_further(make_run(tmp_path, name, method=name), seed=i) for i, name in enumerate("ab")]
    content = collect(runs)
    groups = {group["measurement"]: group for group in content["comparison"]["groups"]}
    assert groups.keys() == {"linear", "attentive", "sgd", "knn", "retrieval"}
    rows = [further_results(name, seed=i)["retrieval"]["rows"][0] for i, name in enumerate("ab")]
    right = [np.array(row["predicted"]) == np.array(row["labels"]) for row in rows]
    pair = groups["retrieval"]["pairs"][0]
    assert pair["difference"] == pytest.approx(right[0].mean() - right[1].mean())
    assert (pair["only_a"], pair["only_b"]) == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
    for row, found in zip(rows, groups["retrieval"]["runs"], strict=True):
        assert found["accuracy"] == pytest.approx(row["scores"]["rank1"]["value"])
    for group in content["comparison"]["scores"]:
        named = {score["score"] for score in group["scores"]}
        assert groups.get(group["measurement"], {"score": None})["score"] not in named, "it is paired by image"
    for section in comparison_chapter(content).sections:
        for table in section.blocks:
            if isinstance(table, Table):
                told = [tuple(cell.text for cell in row[: table.names]) for row in table.rows]
                assert len(set(told)) == len(told), table.title
    page = html(build(content))
    assert "Retrieval (rank-1) of each run&#39;s encoder, on 48 images" in page
    assert "Nearest neighbours (kNN) of each run&#39;s encoder, on 48 images" in page


def test_other_options_are_another_question(tmp_path: Path) -> None:
    """Three folds against five, or kappa against accuracy, say nothing of two encoders."""
    runs = [make_run(tmp_path, name, method=name) for name in "ab"]
    for run, folds in zip(runs, (3, 5), strict=True):
        result = further_results(run.name)["cv"]
        result["options"]["folds"] = folds
        (run.results / "cv-fixed-last.json").write_text(json.dumps(result))
    assert {group["measurement"] for group in collect(runs)["comparison"]["scores"]} == {"linear"}


def test_holm_covers_all_scores_of_a_question() -> None:
    rng = np.random.default_rng(0)
    about: dict[str, Any] = {"data": "d", "data_hash": "h", "protocol": "tuned", "checkpoint": "last", "options": {}}
    about |= {"epoch": 1, "after": "epoch 1"}
    runs: list[dict[str, Any]] = []
    for name, shift in (("a", 0.0), ("b", 0.2)):
        for seed in range(6):
            means = {metric: {"mean": shift + rng.uniform(0, 0.3), "ci": None} for metric in ("kappa", "accuracy")}
            row = {"name": "e", "kind": "encoder", "metric": "kappa", "decodings": {"plain": means}}
            runs.append({"name": f"{name}{seed}", "results": {"cv": [{**about, "rows": [row]}]}})
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


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = add_further(make_run(tmp_path, "a"), classes=HOSTILE[:4], data=f"data/{HOSTILE[0]}.h5")
    for path in run.results.glob("*.json"):
        text = path.read_text()
        for plain, bad in zip(("conrec last", "angle", "linear", "fixed"), HOSTILE, strict=False):
            text = text.replace(f'"{plain}"', json.dumps(bad))
        path.write_text(text)
    page = html(build(collect([run])))
    assert "What nearest neighbours share" in page
    for bad in HOSTILE[:2]:
        assert bad not in page
    assert "onerror='window" not in page


def test_rank1_counts_the_queries_that_have_a_relevant_image() -> None:
    row: dict[str, Any] = {"name": "conrec last", "kind": "encoder", "labels": [0, 0, 1], "predicted": [0, 1, 0]}
    row["scores"] = {"rank1": {"value": 0.5, "ci": None, "chance": None}}
    (found,) = answered({"results": {"retrieval": [{"rows": [row]}]}})
    assert (found["measurement"], found["score"], found["n"], found["accuracy"]) == ("retrieval", "rank-1", 2, 0.5)
    assert answered({"results": {"retrieval": [{"rows": [row | {"labels": [0, 1, 2]}]}]}}) == []


def test_the_certificate_of_the_images_stands_under_what_reads_their_classes(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    path = run.results / "linear-tuned-last.json"
    said = ["corner: local, a bag of 3x3 patches reads it", "frame: whole, certified 9"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"certificate": said}))
    assert read_result(json.loads(path.read_text())).name == "linear"
    parts = markdown(build(collect([run]))).split("\n### ")
    (found,) = (part for part in parts if part.startswith("Linear probe"))
    assert all(f"\n{line}\n" in found for line in said)
    assert not any(said[0] in part for part in parts if part != found)


def test_a_certificate_in_the_dataset_is_told_in_sentences(tmp_path: Path) -> None:
    info = small_shapes(tmp_path / "circ-sq.h5", generator="circ-sq", n=2, n_test=2, size=128)
    run = make_run(tmp_path, "a", data=str(info.path), data_hash=info.content_hash)
    facts = about_section(collect([run])["runs"][0], "a").blocks
    (dataset,) = (block for block in facts if isinstance(block, Table) and block.title == "Dataset")
    told = {row[0].text: row[1].text for row in dataset.rows}
    assert told["certificate"].startswith("shape_1: local, a bag of 3x3 patches reads it, shape_2: local")
