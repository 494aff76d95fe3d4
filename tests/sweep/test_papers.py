"""The papers' tables as shipped sweeps: their numbers are the papers', and what they name is measured.

Alone: pytest tests/sweep/test_papers.py
"""

import re
from pathlib import Path

import pytest

from probekit.measurement import Score, measurement, measurements
from probekit.registry import branch_named
from probekit.sweep.definition import Sweep, load, parse, shipped
from probekit.sweep.measures import split_pooled
from tests.sweep.made import ENCODER, heatmap, linear, retrieval

PAPERS = Path(__file__).parents[3] / "shared" / "papers"
needs_papers = pytest.mark.skipif(not PAPERS.is_dir(), reason="the papers' texts are not here")
TABLES = [
    "conrec-figure6",
    "conrec-table2",
    *(f"lcr-table{n}" for n in range(1, 6)),
    *(f"xcorr-table{n}" for n in range(1, 5)),
]
FINE = ("cub200", "stanford-cars", "fgvc-aircraft")
TOP1, RANK1 = "last/SGD head, best on test", "last/rank-1"


def printed(paper: str, table: str) -> list[list[str]]:
    """The cells of a table with tabs between, from its caption to the next empty line that follows them or before."""
    lines = (PAPERS / f"{paper}.txt").read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.lstrip("*").startswith(table))
    after = [line.split("\t") for line in lines[at + 1 : at + 40] if "\t" in line]
    return after


def numbers(sweep: Sweep, score: str, side: str, datasets: tuple[str, ...] = FINE) -> list[float | None]:
    """The numbers of a row under one score, one a dataset."""
    (paper,) = [paper for paper in sweep.papers if paper.score == score]
    return [paper.percent.get(dataset, {}).get(side) for dataset in datasets]


def floats(cells: list[str]) -> list[float]:
    return [float(cell) for cell in cells]


def test_every_table_is_shipped() -> None:
    assert set(TABLES) <= shipped().keys()


@pytest.mark.parametrize("name", shipped())
def test_what_a_shipped_sweep_names_is_there(name: str) -> None:
    """Independent of the file's own check: scores by the measurements' names, rows, poolings that a branch brings."""
    sweep = load(name)
    assert sweep.about
    rows = {row.name: row for row in sweep.rows}
    for paper in sweep.papers:
        for dataset, percent in paper.percent.items():
            measure = sweep.measures[dataset]
            known = {"linear", "monitor"} | {own for each in measure.every for own in each.named()}
            stem = re.sub(r", \d+ % of labels$", "", paper.number)
            assert stem in known or any(stem.startswith(own) for own in known if own[-1] in " ="), paper.score
            assert percent
            for row, pool in map(split_pooled, percent):
                branches = [branch_named(branch)[0] for branch in rows[row].branches]
                assert pool is None or (pool in measure.pools and "lcr" in branches)


@needs_papers
def test_conrec_table_2() -> None:
    sweep = load("conrec-table2")
    cells = {line[0]: line[2:5] for line in printed("conrec", "Table 2.") if len(line) == 6 and line[0] != "Model"}
    called = {
        "SimCLR U-net": "simclr",
        "SimCLR Attention U-net": "simclr-attention",
        "ConRec U-net": "conrec",
        "U-net (Random Init)": "unet-supervised",
        "DenseNet121 (Random Init)": "densenet121-supervised",
    }
    assert cells.keys() - called.keys() == {"DenseNet121 (ImageNet Init)"}
    for there, row in called.items():
        kappa = numbers(sweep, "last/cross-validated kappa, cumulative", row, ("aptos2019",))
        accuracy = numbers(sweep, TOP1, row, ("flowers102", "stanford-dogs"))
        beside = floats(cells[there])
        assert accuracy == beside[1:]
        assert kappa == ([None] if row.endswith("supervised") else beside[:1]), "trained with the labels of every fold"
    figure = load("conrec-figure6")
    assert {row.name.rpartition("batch")[2] for row in figure.rows} == {"4", "8", "16", "32", "64"}
    assert numbers(figure, figure.papers[0].score, "simclr-batch16", ("aptos2019",)) == [85.72]
    assert numbers(figure, figure.papers[0].score, "conrec-batch16", ("aptos2019",)) == [89.44]


@needs_papers
def test_lcr_table_1_has_its_variants_with_the_numbers_of_table_4() -> None:
    text = (PAPERS / "lcr.txt").read_text()
    variants = re.findall(r"^(SAM|Ours)([\w-]*)\t", text[: text.index("Table 1. Upper part")], re.MULTILINE)
    assert variants == [
        ("SAM", ""),
        ("SAM", "-Bilinear"),
        ("Ours", ""),
        ("Ours", "-DualPooling"),
        ("Ours", "-MultiTask"),
    ]
    ours, fourth = load("lcr-table1"), load("lcr-table4")
    assert {row.name for row in ours.rows} <= {row.name for row in fourth.rows}
    by_name = {row.name: row.branches for row in ours.rows}
    assert by_name["moco-v2-lcr-dual"] == ("lcr-dual-pooling",)
    cells = {re.sub(r" \[.*", "", line[0]): line[2:] for line in printed("lcr", "Table 4.") if len(line) == 8}
    called = {
        "MoCo v2": "moco-v2",
        "MoCo v2 -Bilinear": "moco-v2-bilinear@bilinear",
        "SAM-SSL": "moco-v2-sam",
        "SAM-SSL-Bilinear": "moco-v2-sam-bilinear@bilinear",
        "DiLo": "moco-v2-dilo",
        "CVSA": "moco-v2-cvsa",
        "ContrastiveCrop": "moco-v2-crop",
        "LEWEL": "moco-v2-lewel@bilinear",
        "Ours-MultiTask": "moco-v2-lcr",
        "Ours": "moco-v2-lcr@branch",
        "Ours+ContrastiveCrop": "moco-v2-lcr-crop@branch",
    }
    assert cells.keys() - called.keys() <= {"Ours-DualPooling", "ine mou", "Method"}
    for there, side in called.items():
        beside = [None if cell == "-" else float(cell) for cell in cells[there]]
        assert numbers(fourth, TOP1, side) + numbers(fourth, RANK1, side) == beside
        if split_pooled(side)[0] in by_name:
            assert numbers(ours, TOP1, side) + numbers(ours, RANK1, side) == beside


@needs_papers
def test_lcr_table_2_each_metric_beside_its_own_score() -> None:
    sweep, dataset = load("lcr-table2"), ""
    called, sides = dict(zip(("CUB-200-2011", "Stanford Cars", "FGVC Aircraft"), FINE, strict=True)), 0
    for line in printed("lcr", "Table 2."):
        dataset = called.get(line[0], dataset)
        side = {"MoCo v2": "moco-v2", "Ours": "moco-v2-lcr@branch"}.get(line[1])
        if side is None or len(line) < 8:
            continue
        sides += 1
        beside = floats([number for cell in line[2:8] for number in cell.split("/")])
        shares = ("", ", 50 % of labels", ", 20 % of labels")
        heads = [f"last/SGD head, {kind}{share}" for share in shares for kind in ("best on test", "top-5")]
        scores = [*heads, RANK1, "last/rank-5", "last/mAP"]
        assert [numbers(sweep, score, side, (dataset,))[0] for score in scores] == beside
    assert sides == 6


@needs_papers
def test_lcr_tables_3_and_5() -> None:
    third, seen = load("lcr-table3"), 0
    for line in printed("lcr", "Table 3."):
        if len(line) != 7 or line[0] == "Method":
            continue
        name = re.sub(r" ?\[.*|\*", "", line[0])
        row = {"Ours": "moco-v2-lcr", "BYOL+Ours": "byol-lcr", "MoCo v2": "moco-v2", "BarlowTwins": "barlow-twins"}
        sizes = [""] if line[1] == "-" else [f"-batch{size}" for size in line[1].split("/")]
        for n, size in enumerate(sizes):
            side = f"{row.get(name, name.lower())}{size}" + "@branch" * ("Ours" in name)
            beside = [
                float(re.sub("</?u>", "", cell.split("/", 1)[n] if size else cell).strip("/ ")) for cell in line[2:5]
            ]
            assert numbers(third, TOP1, side) == beside
            seen += 1
    assert seen == 19
    fifth, cells = load("lcr-table5"), printed("lcr", "Table 5.")
    for (there, *more), side in zip(
        ([*cells[1]], [*cells[2]]), ("moco-v2-lcr@branch", "moco-v2-mlp@branch"), strict=True
    ):
        assert there in ("Cars", "")
        scores = (RANK1, "last/rank-5", "last/mAP")
        assert [numbers(fifth, score, side, ("stanford-cars",))[0] for score in scores] == floats(more[-3:])
    assert numbers(load("lcr-figure4"), RANK1, "k32@branch", ("cub200",)) == [49.69]
    assert "49.69% with K around 32" in (PAPERS / "lcr.txt").read_text()


@needs_papers
def test_xcorr_tables() -> None:
    text = (PAPERS / "xcorr.txt").read_text()
    pattern = r"^(SwAV\+repo|[Oo]urs) ([\d. ]+?) Imagenet-(1K|50)$"
    found = re.findall(pattern, text, re.MULTILINE)
    assert len(found) == 12
    scores = [("1", "last/kNN, k=200, T=0.1"), ("2", "last/SGD head"), ("4", "last/average drop")]
    for (table, score), lines in zip(scores, (found[:4], found[4:8], found[8:]), strict=True):
        for name, cells, images in lines:
            side, dataset = "swav" if name.startswith("SwAV") else "swav-xcorr", "imagenet" + "50" * (images == "50")
            sweep = load(f"xcorr-table{table}")
            assert numbers(sweep, score, side, (dataset,)) == [float(cells.split()[0])]
            if table == "4":
                assert numbers(sweep, "last/average increase", side, (dataset,)) == [float(cells.split()[1])]
    val = re.findall(r"^(?:SwAV|Ours) trained on Pascal ([\d.]+) ", text, re.MULTILINE)
    third = load("xcorr-table3")
    assert [numbers(third, "last/SGD head", side, ("voc2012",))[0] for side in ("swav", "swav-xcorr")] == floats(val)


SMALL = """# A file of one's own.
seeds = [0]
[measure]
linear = false
knn = true
[[datasets]]
name = "mine"
file = "mine.h5"
[[rows]]
method = "simclr"
[[paper]]
source = "them"
score = "last/kNN, k=200, T=0.1"
percent.mine = { simclr = 50 }
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "last/kNN, k=200",
            "last/kNN k=200",
            r"unknown score 'last/kNN k=200, T=0.1'; .*\(of dataset mine in paper\[0\]",
        ),
        ("last/kNN, k=200", "best_test/kNN, k=200", "unknown score"),
        ("last/kNN, k=200, T=0.1", "last/linear", "unknown score 'last/linear'"),
        ("last/kNN, k=200", "last@branch/kNN, k=200", "unknown score 'last@branch"),
        ("{ simclr", '{ "simclr@norm"', r"expected simclr@norm under one of the pools of \[measure\]"),
        ("knn = true", "", "expected something to measure in .*, found linear = false alone"),
    ],
)
def test_a_number_for_what_is_not_measured_is_refused(old: str, new: str, message: str) -> None:
    assert parse("small", SMALL, where="small.toml").papers[0].number == "kNN, k=200, T=0.1"
    with pytest.raises(ValueError, match=message) as caught:
        parse("small", SMALL.replace(old, new), where="small.toml")
    assert "\n" not in str(caught.value)


def test_measurements_say_the_names_of_their_numbers() -> None:
    """Those that have scores have names, and each measures what it names."""
    without = {each.name for each in measurements() if not each.named()}
    assert without == {"health", "all-checkpoints", "depth", "map-depth"}
    for each in measurements():
        told = [name + "x" * (name[-1] in " =") for name in each.named()]
        told = [f"{name}, 20 % of labels" for name in told] if each.name == "fractions" else told
        assert all(map(each.measures, told))
        assert not each.measures("nonsense")
    for name, row in (("linear", linear(ENCODER, 0.7, corner=0.9)), ("retrieval", retrieval(ENCODER, 0.4))):
        assert all(map(measurement(name).measures, measurement(name).numbers(row)))


def test_drop_and_increase_are_numbers_and_no_scores() -> None:
    """Shares of 1, as every score; of a drop less is better, so it is not among those that are compared."""
    reader, half = measurement("heatmap"), {"mean": 50.0, "ci": [40.0, 60.0]}
    seen = {"n": 9} | dict.fromkeys(("average_drop", "average_increase", "average_gain", "mean_map"), half)
    row = heatmap() | {"perturbation": {"": seen}}
    found = reader.numbers(row)
    assert found["average drop"] == found["average increase"] == Score(0.5, [0.4, 0.6])
    assert found.keys() - reader.scores(row).keys() == {"average drop", "average increase"}
    assert all(map(reader.measures, found))
    kept = reader.encoder_scores({"rows": [row]}, main=True, also=("average drop",))
    assert "average drop" in kept
    assert "average increase" not in kept
