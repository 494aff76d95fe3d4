"""What is told of an exam, and drawn of a part of one."""

import copy
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

from probekit.exams import conflict, tables
from probekit.exams.chart import draw_exam
from probekit.exams.compared import Examined, differences, differences_table, together
from probekit.exams.measurement import Exam
from probekit.exams.psychometric import threshold
from probekit.exams.scoring import _crossing, conflict_numbers, px_of
from probekit.exams.sentences import sentences
from probekit.exams.trials import Trial
from tests.exams import answers
from tests.output.marks import weak_marks

BEST = (0.95, [0.9, 0.99])
PX = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


made = cache(answers.rows)


def result(run: str = "a") -> dict[str, Any]:
    head = {"run": run, "checkpoint": "last", "data": "drawings of 128 px", "protocol": "quick"}
    return copy.deepcopy({**head, **answers.about(Exam()), "rows": made()})


def px(value: float, low: float, high: float, beyond: str = "") -> dict[str, Any]:
    return {"value": value, "ci": [low, high], "beyond": beyond, "ci_beyond": ["", ""]}


def easy(value: float, ci: list[float] | None, p: float = 0.5) -> dict[str, Any]:
    return {"readable": {"value": value, "ci": ci}, "present": {"value": value, "ci": ci}, "p": p}


def reads(found: dict[str, Any], item: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What the encoder reads of an item, by output, to be changed."""
    return {tables.output(read): read for read in found["rows"][0]["items"][item]}


@pytest.mark.parametrize("part", ["conflict", "invariance", "landolt-mirror", "bind", "one output", "two runs"])
def test_a_part_of_an_exam_has_tables_sentences_and_a_chart_without_a_warning(part: str) -> None:
    found = result("a" * 200 if part == "two runs" else "a")
    if part == "one output":
        for row in found["rows"][:1]:
            row["strides"] = {"level1": 2}
            row["items"] = {item: outputs[:1] for item, outputs in row["items"].items()}
            row["conflict"] = row["conflict"][:1]
    elif part != "two runs":
        kept = [part] if part in found["items"] else []
        found["items"] = {item: about for item, about in found["items"].items() if item in kept}
        for row in found["rows"]:
            row["items"] = {item: outputs for item, outputs in row["items"].items() if item in kept}
            row["conflict"] = row["conflict"] if part == "conflict" else []
            row["invariance"] = row["invariance"] if part == "invariance" else {}
    assert tables.tables(found)
    assert sentences(found) or part == "invariance"
    if part != "invariance":  # which comes with the ring
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = draw_exam([found, result("b")] if part == "two runs" else [found])
            figure.draw_without_rendering()
        assert weak_marks(figure) == []
        assert len(figure.axes) == {"conflict": 1, "landolt-mirror": 4, "bind": 2}.get(part, len(figure.axes))


def test_what_is_not_of_the_embedding_is_not_called_so() -> None:
    found = result()
    for item, outputs in found["rows"][0]["items"].items():
        found["rows"][0]["items"][item] = outputs[:2]
    found["rows"][0]["conflict"] = found["rows"][0]["conflict"][:2]
    found["rows"][0]["strides"].popitem()
    first, *more = sentences(found)
    assert first.startswith("The embedding was not read; of level2 grid4: Reads a gap of ")
    assert not any("embedding" in line for line in more)
    (name, *_), *_ = tables.tables(found)[0].rows
    assert name.text == "conrec last, level2 grid4"


def test_the_regimen_of_a_read_out_is_named_in_the_table_and_in_the_chart() -> None:
    found = result()
    reads(found, "landolt")["embedding", "own"]["regimen"] = "all"
    reads(found, "landolt")["level1", "gap"]["regimen"] = "easy"
    thresholds = tables.tables(found)[0]
    assert thresholds.rows[0][1].text.endswith("] all")
    assert "easy, all: the levels of the training pairs" in thresholds.how
    shown = [text.get_text() for axes in draw_exam([found]).axes for text in axes.texts]
    assert any(text.endswith(" all") for text in shown)


def test_each_pair_in_the_chart_says_what_is_proved_of_it() -> None:
    heads = [axes.get_title(loc="left") for axes in draw_exam([result()]).axes]
    assert heads[:3] == ["landolt\nlocal", "landolt-mirror\nlocal", "bind\nwhole, certified 9"]
    small = {**result(), "size": 64}
    assert draw_exam([small]).axes[2].get_title(loc="left") == "bind\nwhole, certified 5"


def test_what_a_layer_has_within_pairs_stands_beside_what_it_reads() -> None:
    found = result()
    for (layer, _), read in reads(found, "bind").items():
        read["easy"]["present"]["value"] = {"level1": 0.8, "level2": 0.8, "embedding": 0.7}[layer]
    other = {**reads(found, "bind")["level1", "gap"], "pool": "max", "easy": easy(0.5, None)}  # reads less
    other["easy"]["present"] = {"value": 0.9, "ci": None}
    found["rows"][0]["items"]["bind"].append(other)
    (table,) = (table for table in tables.tables(found) if table.key == "present-0")
    column = list(table.columns).index("bind")
    assert [row[column].text for row in table.rows] == ["90.0 max", "80.0 grid4", "70.0 own"]
    assert table.folded


@pytest.mark.parametrize(
    ("present", "readable", "told"),
    [
        ((0.95, [0.9, 0.99]), (0.6, [0.5, 0.7]), True),
        ((1.0, None), (0.6, [0.5, 0.74]), True),
        ((0.95, [0.9, 0.99]), (0.7, [0.6, 0.8]), False),  # perhaps it is readable
        ((0.8, [0.7, 0.9]), (0.6, [0.5, 0.7]), False),  # perhaps it is not present
    ],
)
def test_what_nuisances_hide_is_told_where_both_intervals_are_clear(present: Any, readable: Any, told: bool) -> None:
    found = result()
    read = reads(found, "bind")["embedding", "own"]
    read["easy"] = {**easy(*readable), "present": {"value": present[0], "ci": present[1]}}
    shares = f"{100 * present[0]:.0f} % within pairs, {100 * readable[0]:.0f} % among unlike scenes"
    line = f"Present, but hidden by nuisances: which mark is in which frame ({shares})."
    assert (line in sentences(found)) == told


def test_details_and_relations_have_a_mean_each_without_mirror_images() -> None:
    found = result()
    for item, value in (("landolt", 0.9), ("landolt-mirror", 0.5), ("bind", 0.6)):
        reads(found, item)["embedding", "own"]["all"] = easy(value, [value - 0.05, value + 0.02])
    (table,) = (table for table in tables.tables(found) if table.key == "kinds")
    assert list(table.columns) == ["observer", "local", "relational"]
    assert [cell.text for cell in table.rows[0]] == ["conrec last", "80.0 [70.0, 84.0]", "20.0 [10.0, 24.0]"]
    for read in reads(found, "landolt").values():
        read.pop("all", None)  # of no embedding
    (table,) = (table for table in tables.tables(found) if table.key == "kinds")
    assert table.rows[0][1].text == "-"


def test_several_encoders_share_their_tables_and_those_who_sit_beside_them() -> None:
    one, two = result("one"), result("two")
    two["rows"][0]["name"] = "simclr last"
    shared = together([one, two])
    names = [row["name"] for row in shared["rows"]]
    assert names == ["one last", "two last", *(row["name"] for row in one["rows"][1:])]
    thresholds = tables.tables(shared)[0]
    assert [row[0].text for row in thresholds.rows[:4:2]] == ["one last, embedding", "two last, embedding"]
    untrained = next(row for row in two["rows"] if row["name"] == "random weights")
    untrained["strides"] = {"other": 2}
    names = [row["name"] for row in together([one, two])["rows"]]
    assert {"random weights of one's network", "random weights of two's network"} <= set(names)
    assert names.count("patch bag") == 1


def test_a_threshold_beyond_the_levels_is_no_promise_that_it_lies_somewhere() -> None:
    found = result()
    reads(found, "landolt")["embedding", "own"]["threshold"]["readable"] = px(8.0, 7.0, 8.0, ">")
    assert sentences(found)[0].startswith("Reads a gap not even at 8.0 px")


@pytest.mark.parametrize(
    ("mirrored", "told"),
    [
        (px(5.5, 4.8, 6.2), "The mirror image needs a gap 2.0 times as wide in the embedding, 1.1 times in "),
        (px(8.0, 7.0, 8.0, ">"), "The mirror image needs a gap more than 2.9 times as wide in the embedding, 1"),
        (px(3.4, 2.9, 4.0), None),  # the intervals meet
    ],
)
def test_the_price_of_a_mirror_is_told_where_it_is_clear(mirrored: dict[str, Any], told: str | None) -> None:
    found = result()
    for item, gap, own in (("landolt", 2.0, px(2.8, 2.5, 3.2)), ("landolt-mirror", 2.2, mirrored)):
        for output, read in reads(found, item).items():
            read["threshold"]["readable"] = own if output == tables.EMBEDDING else px(gap, 1.9, 2.6)
    lines = [line for line in sentences(found) if line.startswith("The mirror image")]
    assert [line.startswith(told) for line in lines] == [True] if told else lines == []


@pytest.mark.parametrize(
    ("read", "told"),
    [
        ({"easy": easy(0.8, [0.7, 0.9], 0.001)}, "Sees which mark is in which frame (80 %)."),
        ({"easy": easy(0.55, [0.43, 0.67], 0.2)}, "Does not see which mark is in which frame (55 %)."),
        ({"easy": easy(0.66, [0.5, 0.8], 0.06)}, "Undecided: which mark is in which frame (66 %)."),
        ({"easy": easy(0.5, None, 1.0)}, "Does not see which mark is in which frame (50 %)."),
        (
            {"easy": easy(0.55, [0.43, 0.67], 0.2), "rising": True},
            "Still rising with more training pairs: which mark is in which frame (55 %).",
        ),
    ],
)
def test_no_more_is_said_of_a_whole_than_its_interval_says(read: dict[str, Any], told: str) -> None:
    found = result()
    reads(found, "bind")["embedding", "own"].update({"rising": False, **read})
    assert told in sentences(found)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((BEST, (0.6, [0.5, 0.7]), (0.7, [0.6, 0.8])), "95 % at the easiest level, level2 60 %, embedding 70 %."),
        ((BEST, (0.93, [0.88, 0.98]), (0.7, [0.6, 0.8])), "95 % at the easiest level, embedding 70 %."),
        ((BEST, (0.6, [0.5, 0.7]), (0.85, [0.7, 0.92])), None),  # below the best, but their intervals meet
        (((1.0, None), (0.9, [0.8, 0.95]), (0.5, None)), "100 % at the easiest level, level2 90 %, embedding 50 %."),
        (((0.7, [0.66, 0.74]), (0.5, None), (0.5, None)), None),  # nothing was there
    ],
)
def test_what_is_lost_is_told_where_intervals_do_not_meet(values: Any, told: str | None) -> None:
    found = result()
    for (value, ci), read in zip(values, reads(found, "bind").values(), strict=True):
        read["easy"] = easy(value, ci)
    lines = [line for line in sentences(found) if line.startswith("bind: ")]
    assert lines == ([f"bind: level1 reads {told}"] if told else [])


def test_what_is_followed_is_no_number_where_a_cue_is_not_read() -> None:
    row = result()["rows"][0]
    told = row["conflict"][-1]
    told |= {"whole": [0.5, 0.9, 0.9], "element": [0.9, 0.76, 0.5], "follows": [0.1, 0.2, 0.3]}
    assert Exam().numbers(row)["follows the whole"].value == 0.2
    told["element"][1] = 0.74
    assert Exam().numbers(row)["follows the whole"].value is None


@pytest.mark.parametrize(
    ("whole", "element", "unread"),
    [
        ([0.5, 0.6, 0.7], [0.9, 0.9, 0.9], "the whole alone"),
        ([0.5, 0.6, 0.7], [0.5, 0.5, 0.5], "the whole and the parts alone"),
        ([0.5, 0.6, 0.9], [0.9, 0.9, 0.7], "one of the two alone"),
    ],
)
def test_what_is_followed_is_not_said_where_a_cue_is_not_read(
    whole: list[float], element: list[float], unread: str
) -> None:
    found = result()
    found["rows"][0]["conflict"][-1] |= {"whole": whole, "element": element}
    assert f"does not read {unread}, so nothing is said" in sentences(found)[-1]


def test_the_interval_of_what_is_followed_is_of_scenes_and_of_seeds() -> None:
    """One seed always follows the whole and one never: whatever the scenes, the share may be anything."""
    signs = np.tile([-1.0, 1.0], 20)
    values = np.stack([signs, -signs])[:, None].repeat(3, axis=1).astype(np.float32)
    both = {("embedding", "own"): Trial(values, values, ("", ""))}
    (told,) = conflict_numbers(dict.fromkeys(conflict.QUESTIONS, both), 128)
    assert told["follows"] == [0.5] * 3
    assert told["ci"] == [[0.0, 1.0]] * 3


@pytest.mark.parametrize(
    ("shares", "px"),
    [
        ([0.9, 0.7, 0.1], 4 * 2 ** (np.log2(7 / 4) / 3)),
        ([0.8, 0.5, 0.2], 4.0),
        ([0.9, 0.8, 0.6], None),
        ([0.5, 0.5, 0.5], None),
    ],
)
def test_both_cues_are_followed_alike_where_one_half_is_reached(shares: list[float], px: float | None) -> None:
    assert _crossing(conflict.RADII, np.array(shares)) == (None if px is None else pytest.approx(px))


def test_a_ratio_to_a_threshold_beyond_the_levels_is_a_bound() -> None:
    rng = np.random.default_rng(0)
    fine, coarse = (rng.normal(size=(1, 7, 80)).astype(np.float32) for _ in "ab")
    fine[..., 1::2] += np.array([0, 0, 1, 2, 3, 4, 5], np.float32)[:, None]
    assert px_of(threshold(PX, coarse, seed=0))["beyond"] == ">"
    examined = [
        Examined({"run": name, "size": 128}, {"landolt": {tables.EMBEDDING: Trial(values, values, ("easy",))}})
        for name, values in (("fine", fine), ("coarse", coarse))
    ]
    for pair, mark in ((examined, "<"), (examined[::-1], ">")):
        (told,) = differences(pair)
        assert told["times"]["beyond"] == mark
        (cells,) = differences_table([told]).rows
        assert cells[4].text == f"{mark} {told['times']['value']:.2f}"
