"""Encoders side by side: differences of what their embeddings read, paired by test image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from scipy.stats import norm

from probekit.exams.items import ITEMS
from probekit.exams.psychometric import areas, difference, resampled, threshold
from probekit.exams.scoring import SEED
from probekit.exams.tables import EMBEDDING, px_text
from probekit.exams.trials import Trial, Trials
from probekit.measurement import ENCODER, Result, Row
from probekit.output.document import Cell, Table, points, probability, text
from probekit.statistics import ROUNDING, add_holm, percentiles, verdict


@dataclass(frozen=True)
class Examined:
    """A result, and what its encoder answered to each item."""

    result: Mapping[str, Any]
    answers: Mapping[str, Trials]


def together(results: Sequence[Result]) -> Result:
    """Results of one exam as one: each encoder by its run's name, and who sits beside them once.

    Baselines that read layers, random weights say, are as many as there are architectures, by the run of each.
    """
    encoders: list[Row] = []
    others: list[tuple[str, Row]] = []
    for result in results:
        for row in result["rows"]:
            if row["kind"] == ENCODER:
                encoders.append({**row, "name": f"{result['run']} {result['checkpoint']}"})
            elif row not in [known for _, known in others]:
                others.append((result["run"], row))
    names = [row["name"] for _, row in others]
    beside = [
        {**row, "name": f"{row['name']} of {run}'s network"} if names.count(row["name"]) > 1 else row
        for run, row in others
    ]
    return {**results[0], "rows": [*encoders, *beside]}


def differences(examined: Sequence[Examined]) -> list[dict[str, Any]]:
    """Every pair of encoders on every item.

    Gives for each: item, a, b (runs), areas (difference, the mean over levels) with ci, p and p_holm over the items of
    the pair, verdict; times {value, ci, beyond}, how many times as large the threshold of a is, beyond ">" or "<" where
    one of the two lies beyond the levels and so this is a bound; None without levels or where both do.
    """
    found = []
    for one, other in combinations(examined, 2):
        pair = [
            _difference(item, one, other) for item in one.answers if _embedding(one, item) and _embedding(other, item)
        ]
        add_holm(pair)
        for told in pair:
            told["verdict"] = verdict(told["areas"], told["p_holm"])
        found += pair
    return found


def _embedding(examined: Examined, item: str) -> Trial | None:
    return examined.answers.get(item, {}).get(EMBEDDING)


def _difference(item: str, one: Examined, other: Examined) -> dict[str, Any]:
    a, b = _embedding(one, item), _embedding(other, item)
    assert a is not None
    assert b is not None
    value = float(areas(a.values).mean() - areas(b.values).mean())
    drawn = [resampled(each.values, kind="readable", seed=SEED).mean(axis=1) for each in (a, b)]
    draws = drawn[0] - drawn[1]
    error = float(draws.std())
    p = float(2 * norm.sf(abs(value) / error)) if error > ROUNDING else float(value == 0)
    times, bound = None, ""
    if ITEMS[item].parameter:
        px = ITEMS[item].px(one.result["size"])
        first, second = (threshold(px, each.values, seed=SEED) for each in (a, b))
        times = difference(first, second)
        bound = first.beyond or {"<": ">", ">": "<", "": ""}[second.beyond]
    return {
        "item": item,
        "a": one.result["run"],
        "b": other.result["run"],
        "areas": value,
        "ci": percentiles(draws),
        "p": p,
        "times": None if times is None else {"value": times[0], "ci": list(times[1]), "beyond": bound},
    }


def differences_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Of `differences`."""
    rows = []
    for told in found:
        ends = "" if told["ci"] is None else "[{:+.1f}, {:+.1f}]".format(*(100 * end for end in told["ci"]))
        shown = points(told["areas"])
        apart = Cell(shown.number, shown.value, ends)
        times = told["times"]
        ratio = Cell("-", None)
        if times is not None:
            ends = "" if times["beyond"] else "[{:.2f}, {:.2f}]".format(*times["ci"])
            ratio = Cell(px_text(times, 2), times["value"], ends)
        rows.append(
            [
                *map(text, (told["item"], told["a"], told["b"])),
                apart,
                ratio,
                probability(told["p_holm"]),
                text(told["verdict"]),
            ]
        )
    how = (
        "Embeddings on the same test pairs: the area of the first less that of the second in points, the mean over "
        "levels; how many times as large its threshold is, below 1 finer. 95 % intervals from the same resamples of "
        "pairs; p by Holm over the items of two encoders."
    )
    columns = ("item", "first", "second", "area, points", "threshold, times", "p", "the first is")
    return Table("differences", "Differences", how, columns, rows, names=3)
