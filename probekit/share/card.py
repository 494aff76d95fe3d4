"""The model card: what the encoder was trained on and how, what was measured of it, and how it is loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join
from typing import Any

from generators import certificates
from probekit import __version__
from probekit.models.backbones import described
from probekit.output.document import Chapter, Document
from probekit.reports.build import lead, measured_sections
from probekit.reports.collect import collect
from probekit.reports.compare import with_branches
from probekit.reports.page import escaped, markdown
from probekit.restore.opened import OpenedRun
from probekit.run import IMPORTED
from probekit.settings import flatten
from probekit.share.base import Written
from probekit.weights import LAST, Weights

MARK = "<!-- probekit-card/1 -->"  # a folder with such a README can be exported to again
FILE = "README.md"
FRONT = """---
library_name: probekit
pipeline_tag: image-feature-extraction
tags:
- self-supervised-learning
# license: yours to choose, as that of the images allows
---"""  # what a hub reads


def card(opened: OpenedRun, written: Sequence[Written]) -> str:
    """The text of README.md; the licence is left to the user, and a comment says so."""
    report = collect([opened.run])
    run = report["runs"][0]
    method = str(run["config"]["method"]) if run["state"] == IMPORTED else with_branches(run["config"])
    height, width = opened.header["image_size"]
    resized = "" if opened.encoder.input is None else f" Before it, images are {opened.encoder.input}."
    parts = [
        FRONT,
        MARK,
        f"# {opened.run.name}",
        f"An image encoder, {method}, {opened.after}, of `probekit` {__version__}. Images of {height}x{width} px in "
        f"[0, 1] become an embedding of {opened.encoder.dim} numbers. Normalisation: "
        f"{described(opened.header['spec'].get('normalise'))}.{resized}",
        "## Files",
        "\n".join(f"- `{each.name}`: {each.about}" for each in written),
        _left_out(opened),
        "## How to load it",
        *(each.usage for each in written),
        "## What it was measured on" if run["state"] == IMPORTED else "## What it was trained on",
        _trained_on(run),
        _measured(report, run, opened.weights),
        "## Settings",
        "\n".join(f"- {name}: `{value}`" for name, value in flatten(run["config"]).items() if value not in ("", None)),
    ]
    return _without_places("\n\n".join(filter(None, parts)) + "\n", run)


def _without_places(text: str, run: Mapping[str, Any]) -> str:
    """The text with the names of files alone: where they lay is nobody else's business."""
    weights, method = run.get("weights"), str(run["config"]["method"])
    places = {run["path"], str(run["config"]["model"].get("weights")), method.partition(":")[2].partition(" (")[0]}
    places |= {str(weights.get("file"))} if isinstance(weights, Mapping) else set()
    places |= {result["data"] for found in run["results"].values() for result in found}
    for place in sorted(places, key=len, reverse=True):
        if "/" in place and (Path(place).is_absolute() or Path(place).exists()):  # and no repository of a hub
            for shown in (place, escaped(place)):
                text = text.replace(shown, Path(place).name)
    return text


def _left_out(opened: OpenedRun) -> str:
    """What of the method is not in the files."""
    if opened.method is None:
        return "No more than the encoder was kept of the run."
    kept = opened.method.kept.partition(".")[0]
    others = [
        name for name, part in opened.method.named_children() if name != kept and any(True for _ in part.parameters())
    ]
    told = f"left out of the method: {', '.join(others)}" if others else "the method has no other part"
    return f"The encoder alone is in the files; {told}."


def _trained_on(run: Mapping[str, Any]) -> str:
    dataset, data = run["dataset"], run["data"]
    lines = [f"- dataset: {dataset['name']}, content hash `{dataset['hash'] or 'none'}`"]
    if run["state"] == IMPORTED:
        lines = ["- not trained by probekit, which has measured it on these images", *lines]
    if data is not None:
        given = ", ".join(f"{name} {value}" for name, value in data["parameters"].items())
        lines += [f"- generator: {data['generator']}; {given}"] if data["generator"] else []
        lines += [f"- classes: {', '.join(data['classes']) or 'none'}"]
        lines += [
            f"- {name}: {split['n']} images of {split['height']}x{split['width']} px, channels: {split['channels']}"
            for name, split in data["splits"].items()
        ]
        lines += [f"- certificate: {line}" for line in certificates.told(data["certificate"])]
    weights = run.get("weights")
    if isinstance(weights, Mapping):
        lines += [f"- began with weights of `{weights.get('file')}`"]
    return "\n".join([*lines, *(f"- {line}" for line in run["left_out"])])


def _measured(report: Mapping[str, Any], run: Mapping[str, Any], weights: Weights) -> str:
    """The results of these weights with their baselines, as the report has them."""

    def of_these(result: Mapping[str, Any]) -> bool:
        return Weights.parse(result["checkpoint"]).checkpoint == weights.checkpoint

    results = {name: list(filter(of_these, found)) for name, found in run["results"].items()}
    if not any(results.values()):
        words = [] if weights.checkpoint == LAST.checkpoint else ["--checkpoint", weights.checkpoint]
        again = join(["probekit", "probe", *run["argument"], *words])
        return f"## Results\n\nNothing was measured of these weights; `{again}` does."
    own = {**run, "results": results}
    sections = [section for section in measured_sections(own, "card") if not section.key.endswith("unmeasured")]
    page = markdown(Document("", report["command"], [Chapter("results", "Results", lead(own), sections)]))
    return page[page.index("## Results") :].rstrip()
