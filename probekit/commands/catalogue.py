"""`probekit list`: what there is."""

from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from generators import GENERATORS
from probekit.config import method_options, presets, resolve
from probekit.models.encoder import count_as_paper, count_parameters
from probekit.registry import BRANCHES, LOOKS, METHODS, get
from probekit.train.pretrain import build_method

CHANNELS = 3  # parameter counts are for 3 channels at preset `paper`, as in the ConRec paper's Table 2


def catalogue() -> dict[str, Any]:
    """Generators, methods, branches, looks and presets as plain data; the shape is a promise to scripts."""
    return {
        "generators": [_generator(kind) for kind in GENERATORS.values()],
        "methods": [_method(name) for name in METHODS],
        "branches": list(BRANCHES),
        "looks": list(LOOKS),
        "presets": [{"name": name, "about": about} for name, about in presets().items()],
    }


def print_catalogue(content: dict[str, Any], console: Console) -> None:
    """The same for readers."""
    for generator in content["generators"]:
        console.print(f"[bold]{generator['name']}[/bold]  {generator['about']}")
        console.print(f"  classes: {', '.join(generator['classes'])}; default sizes {generator['default_n']}", end="")
        console.print(f"/{generator['default_n_test']}")
        dials = Table(
            "dial (--set)", "default", "range", "unit", "kind", "what it does", box=None, padding=(0, 1, 0, 2)
        )
        for dial in generator["dials"]:
            span = "true or false" if isinstance(dial["default"], bool) else f"{dial['low']:g} to {dial['high']:g}"
            dials.add_row(dial["name"], str(dial["default"]), span, dial["unit"], dial["role"], dial["about"])
        console.print(dials)
    methods = Table(
        "method", "encoder parameters", "as the paper counts", "what it is", "paper", box=None, padding=(0, 1, 0, 0)
    )
    for method in content["methods"]:
        counts = f"{method['encoder_parameters']:,}", f"{method['encoder_parameters_as_paper']:,}"
        methods.add_row(method["name"], *counts, method["about"], method["paper"])
    console.print(methods)
    for preset in content["presets"]:
        console.print(f"preset [bold]{preset['name']}[/bold]  {preset['about']}")


def _generator(kind: Any) -> dict[str, Any]:
    return {
        "name": kind.name,
        "about": kind.about,
        "classes": list(kind.classes),
        "factors": [asdict(factor) for factor in kind.factors],
        "dials": [asdict(dial) for dial in kind.dials],
        "objects": list(kind.objects),
        "default_n": kind.default_n,
        "default_n_test": kind.default_n_test,
    }


def _method(name: str) -> dict[str, Any]:
    kind = get(METHODS, "method", name)
    with torch.device("meta"):
        method = build_method(resolve(name, kind, preset="paper", seed=0), channels=CHANNELS)
    return {
        "name": name,
        "about": kind.about,
        "paper": kind.paper,
        "encoder_parameters": count_parameters(method.encoder),
        "encoder_parameters_as_paper": count_as_paper(method.encoder),
        "recipe": kind.recipe,
        "provides": sorted(kind.provides),
        "options": method_options(kind),
    }
