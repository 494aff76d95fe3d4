"""What a measurement of features is given, made of arrays: no file, no encoder."""

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from probekit.measurement import About, Result
from probekit.probes.measure import Conditions, Labels, Source
from probekit.probes.measurements.base import Probe
from probekit.probes.protocol import Part


def source(name: str = "row", kind: str = "encoder", **parts: Part) -> Source:
    """The features of some splits under a name."""
    return Source(name, kind, lambda split: parts[split].x)


def conditions(
    *asked: Probe, classes: tuple[str, ...], protocol: str = "fixed", seed: int = 0, **parts: Part
) -> Conditions:
    """What every row is made under; the parts are those of the splits."""
    several = any(part.y.ndim == 2 for part in parts.values())
    info: Any = SimpleNamespace(classes=classes, multilabel=several, path="made.h5", splits=parts)
    console = Console(file=io.StringIO())
    return Conditions(Labels(info, parts, {}), protocol, seed, "cpu", console, {each.name: each for each in asked})


def result(asked: Probe, given: Conditions, *rows: dict[str, Any]) -> Result:
    """A whole result with these rows."""
    about: About = {
        "schema": asked.schema(),
        "run": "made",
        "data": "made.h5",
        "data_hash": "0",
        "protocol": asked.protocol(given),
        "how": asked.how(given),
        "command": "probekit probe made",
        "options": asked.options,
        "checkpoint": "last",
        "epoch": 1,
        "seed": given.seed,
        "notes": [],
        "rows": list(rows),
    }
    return dict(about)
