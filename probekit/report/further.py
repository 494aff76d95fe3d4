"""The section from the protocols beside the linear probe: a table for each, and the curves of two."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from probekit.output.charts import draw_lines
from probekit.output.document import (
    Block,
    Cell,
    Chart,
    Note,
    Section,
    Table,
    command,
    count,
    estimate,
    percent,
    percent_interval,
    percents,
    text,
)
from probekit.probe import AP_FORMS, RETRIEVAL
from probekit.probe.table import encoders_first

Result = Mapping[str, Any]
MOST_CLASSES = 40  # beyond, the table of classes is folded
OPTIONS = {  # of `probekit probe`, by the name of what it adds
    "fractions": ("--fractions", "1,2,5,10,20,50,100"),
    "knn": ("--knn",),
    "retrieval": ("--retrieval",),
    "cv": ("--cv", "5"),
    "every": ("--every",),
    "multilabel": (),
}


def further_section(run: Mapping[str, Any], key: str) -> Section:
    """Every protocol that was run, and what to type for the others."""
    blocks: list[Block] = []
    for name, draw in BLOCKS.items():
        for i, result in enumerate(run[name]):
            how = f"{result['how']} {_where(result)}. Again: {result['command']}"
            blocks += [*draw(result, f"{key}-{name}-{i}", how), *map(Note, result["notes"])]
    kept = run["config"]["train"].get("keep_every")
    missing = [name for name in OPTIONS if not run[name] and OPTIONS[name] and (kept or name != "every")]
    if missing and (run["probes"] or not run["multilabel"]):  # images of several labels have none of them but --every
        words = [word for name in missing for word in OPTIONS[name]]
        told = f"Not measured yet: {', '.join(missing)}. Measure by typing:"
        blocks.append(Note(told, command("probekit", "probe", *run["argument"], *words)))
    return Section(f"{key}-further", "Further protocols", blocks)


def _fractions(result: Result, key: str, how: str) -> list[Block]:
    rows = encoders_first(result["rows"])
    shares = [point["fraction"] for point in rows[0]["points"]]
    columns = ("features", *(f"{100 * share:g} % of labels" for share in shares), *_complexity(rows[0]))
    cells = []
    for row in rows:
        points = {point["fraction"]: point for point in row["points"]}
        found = [points.get(share, {"accuracy": None, "ci": None}) for share in shares]
        spans = row.get("complexity_ci", {})
        counted = [{"mean": n, "ci": spans.get(share)} for share, n in row["complexity"].items()]
        reached = [estimate(found, digits=0) for found in counted]
        cells.append([text(row["name"]), *(percents(point["accuracy"], point["ci"]) for point in found), *reached])
    lines = [(row["name"], [p["n"] for p in row["points"]], [p["accuracy"] for p in row["points"]]) for row in rows]
    bands = {
        row["name"]: [point["ci"] or [point["accuracy"]] * 2 for point in row["points"]]
        for row in rows
        if row["kind"] == "encoder"
    }
    grey = [row["name"] for row in rows if row["kind"] != "encoder"]
    draw = partial(
        draw_lines,
        lines,
        x="labelled training images",
        y="test accuracy, %",
        percents=True,
        marker="o",
        grey=grey,
        bands=bands,
        log_x=True,
    )
    told = (
        f"{how} Last columns: sample complexity, the images from which on the mean stays at a share of that with all."
    )
    return [
        _table(key, f"Fractions of the labels: {_title(result)}", told, columns, cells, rows),
        Chart(f"{key}-curve", f"Accuracy by number of labels: {_title(result)}", f"Band: intervals. {how}", draw),
    ]


def _complexity(row: Mapping[str, Any]) -> list[str]:
    return [f"images for {100 * float(share):g} %" for share in row["complexity"]]


def _knn(result: Result, key: str, how: str) -> list[Block]:
    rows = encoders_first(result["rows"])
    fixed = max((row["monitor"] for row in rows), key=len)
    columns = ("features", "accuracy %", "95 % interval", "balanced %", "top-5 %", "k", "T")
    named = [f"k={m['k']}, T={m['temperature']:g} %" for m in fixed]
    nothing = [{"accuracy": None, "ci": None}] * len(fixed)
    cells = [
        [
            text(row["name"]),
            percent(row["accuracy"]),
            percent_interval(row["ci"]),
            percents(row["balanced_accuracy"], row.get("balanced_accuracy_ci")),
            percents(row.get("top5"), row.get("top5_ci")),
            count(row["k"]),
            Cell("-", None) if row["temperature"] is None else Cell(f"{row['temperature']:g}", row["temperature"]),
            *(percents(found["accuracy"], found["ci"]) for found in row["monitor"] or nothing),
        ]
        for row in rows
    ]
    told = f"{how} Last columns: the monitors of the papers, nothing chosen."
    return [_table(key, f"Nearest neighbours: {_title(result)}", told, (*columns, *named), cells, rows)]


def _retrieval(result: Result, key: str, how: str) -> list[Block]:
    rows = encoders_first(result["rows"])
    metrics = [metric for metric in RETRIEVAL if metric in rows[0]["scores"]]
    cells = [
        [text(row["name"]), *(percents(**_score(row["scores"].get(metric))) for metric in metrics)] for row in rows
    ]
    meanings = "; ".join(f"{metric}: {RETRIEVAL[metric]}" for metric in metrics)
    told = f"{how} {rows[0]['n']} queries count, {rows[0]['skipped']} have no relevant image. {meanings}. In %."
    blocks: list[Block] = [
        _table(key, f"Retrieval: {_title(result)}", told, ("features", *(f"{m} %" for m in metrics)), cells, rows)
    ]
    shown = [row for row in rows if row["fingerprint"]]
    if shown:
        blocks.append(_fingerprint(shown, f"{key}-shared", _title(result), how))
    return blocks


def _fingerprint(rows: Sequence[Mapping[str, Any]], key: str, title: str, how: str) -> Table:
    factors = shared_factors(rows)
    cells = [
        [
            text(factor),
            text(rows[0]["fingerprint"][factor]["kind"]),
            *(percents(**_score(row["fingerprint"].get(factor))) for row in rows),
            percent(rows[0]["fingerprint"][factor]["chance"]),
        ]
        for factor in factors
    ]
    told = (
        "What each test image and its nearest have in common, in %. Class factors: how often they have the same value, "
        "beside chance. Others: 1 - the median distance to the nearest / that to a random image; 100 % is the same "
        f"value, 0 % nothing in common; their intervals: 95 % by order statistics of the nearest's median. {how}"
    )
    columns = ("factor", "kind", *(row["name"] for row in rows), "chance")
    return Table(key, f"What nearest neighbours share: {title}", told, columns, cells)


def shared_factors(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Factors that vary."""
    return [name for name, found in rows[0]["fingerprint"].items() if found["value"] is not None]


def _cv(result: Result, key: str, how: str) -> list[Block]:
    rows = encoders_first(result["rows"])
    pairs = [(decoding, metric) for decoding, scores in rows[0]["decodings"].items() for metric in scores]
    columns = [f"{decoding}, {metric}{kind}" for decoding, metric in pairs for kind in ("", ", pooled")]
    nothing = {"mean": None, "ci": None, "pooled": None, "pooled_ci": None}
    cells = []
    for row in rows:
        found = [row["decodings"].get(decoding, {}).get(metric, nothing) for decoding, metric in pairs]
        ends = [(f["mean"], f["ci"], f["pooled"], f["pooled_ci"]) for f in found]
        numbers = [
            estimate({"mean": v, "ci": ci}) for mean, ci0, pooled, ci1 in ends for v, ci in ((mean, ci0), (pooled, ci1))
        ]
        cells.append([text(row["name"]), *numbers])
    return [_table(key, f"Cross-validation: {_title(result)}", how, ("features", *columns), cells, rows)]


def _multilabel(result: Result, key: str, how: str) -> list[Block]:
    rows = encoders_first(result["rows"])
    forms = [form for form in AP_FORMS if form in rows[0]["map"]]
    cells = [
        [
            text(row["name"]),
            *(percents(**_score(row["map"].get(form))) for form in forms),
            count(row["undefined"]),
            count(row["n"]),
        ]
        for row in rows
    ]
    meanings = "; ".join(f"{form}: {AP_FORMS[form]}" for form in forms)
    columns = ("features", *(f"mAP {form} %" for form in forms), "classes left out", "images")
    title = f"Mean average precision: {_title(result)}"
    classes = [
        [
            text(found["name"]),
            *(percents(found["ap"].get(form), found.get("ap_ci", {}).get(form)) for form in forms),
            count(found["positives"]),
            count(found["difficult"]),
            text(found["note"]),
        ]
        for found in rows[0]["per_class"]
    ]
    named = ("class", *(f"AP {form} %" for form in forms), "images with it", "difficult", "left out because")
    folded = len(classes) > MOST_CLASSES
    return [
        _table(key, title, f"{how} {meanings}.", columns, cells, rows),
        Table(f"{key}-classes", f"Of each class, {rows[0]['name']}", how, named, classes, folded=folded),
    ]


def _every(result: Result, key: str, how: str) -> list[Block]:
    names = list(dict.fromkeys(name for point in result["points"] for name in point["scores"]))
    points = sorted(result["points"], key=lambda point: int(point["epoch"]))
    nothing = {"value": None, "ci": None}

    def cells(scores: Mapping[str, Any]) -> list[Cell]:
        found = (scores.get(name, nothing) for name in names)
        return [estimate({"mean": score["value"], "ci": score["ci"]}) for score in found]

    rows = [[count(point["epoch"]), text(point["checkpoint"]), *cells(point["scores"])] for point in points]
    floors = [[Cell("-", None), text(floor["name"]), *cells(floor["scores"])] for floor in result["floors"]]
    table = Table(key, f"Along pretraining: {_title(result)}", how, ("epoch", "encoder", *names), [*rows, *floors])
    blocks: list[Block] = [table]
    for i, name in enumerate(names):
        seen = [p for p in points if p["scores"].get(name, nothing)["value"] is not None]
        if len(seen) < 2:
            continue
        values = [p["scores"][name]["value"] for p in seen]
        bands = [p["scores"][name]["ci"] or [value] * 2 for p, value in zip(seen, values, strict=True)]
        epochs = [p["epoch"] for p in seen]
        levels = [(f["name"], f["scores"].get(name, nothing)["value"]) for f in result["floors"]]
        flat = [(title, [epochs[0], epochs[-1]], [level] * 2) for title, level in levels if level is not None]
        draw = partial(
            draw_lines,
            [("encoder", epochs, values), *flat],
            x="epoch",
            y=name,
            grey=[title for title, _, _ in flat],
            bands={"encoder": bands},
        )
        blocks.append(
            Chart(f"{key}-curve-{i}", f"Along pretraining: {name}", f"Band: intervals; grey: floors. {how}", draw)
        )
    return blocks


BLOCKS: dict[str, Callable[[Result, str, str], list[Block]]] = {
    "multilabel": _multilabel,
    "fractions": _fractions,
    "knn": _knn,
    "retrieval": _retrieval,
    "cv": _cv,
    "every": _every,
}


def _table(
    key: str,
    title: str,
    how: str,
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    rows: Sequence[Mapping[str, Any]],
) -> Table:
    strong = frozenset(i for i, row in enumerate(rows) if row["kind"] == "encoder")
    return Table(key, title, how, columns, cells, strong)


def _score(found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: (found or {}).get(key) for key in ("value", "ci")}


def _title(result: Result) -> str:
    checkpoint = f"checkpoint {result['checkpoint']} " if "checkpoint" in result else ""
    return f"{checkpoint}on {result['data']}"


def _where(result: Result) -> str:
    epoch = f", encoder after {result['after']}" if "after" in result else ""
    return f"Data: {result['data']}{epoch}; seed {result['seed']}"
