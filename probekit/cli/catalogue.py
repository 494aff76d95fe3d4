"""`probekit list`: what there is."""

from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from generators import GENERATORS
from probekit.config import resolve
from probekit.data.importers import OFFICIAL
from probekit.models.backbones import BACKBONES
from probekit.models.encoder import count_as_paper, count_parameters
from probekit.registry import BRANCHES, LOOKS, METHODS, VARIANTS, get
from probekit.restore.build import build_method
from probekit.settings import method_options, presets
from probekit.sweep.definition import describe, shipped
from probekit.views.recipes import RECIPES

CHANNELS = 3  # parameter counts are for 3 channels at preset `paper`, as in the ConRec paper's Table 2


def catalogue() -> dict[str, Any]:
    """Generators, methods, backbones, views, ... as plain data; the shape is a promise to scripts."""
    return {
        "generators": [kind.describe() for kind in GENERATORS.values()],
        "methods": [_method(name) for name in METHODS],
        "backbones": [{"name": name, "about": about} for name, about in BACKBONES.items()],
        "views": [{"name": name, "about": recipe.about} for name, recipe in RECIPES.items()],
        "branches": [_branch(name) for name in BRANCHES],
        "looks": [{"name": name, "about": get(LOOKS, "look", name).about} for name in LOOKS],
        "presets": [{"name": name, "about": about} for name, about in presets().items()],
        "sweeps": [describe(name) for name in shipped()],
        "datasets": [{"name": name, "about": entry.about, "needs": entry.needs} for name, entry in OFFICIAL.items()],
    }


def print_catalogue(content: dict[str, Any], console: Console) -> None:
    """The same for readers, one line an entry."""
    for generator in content["generators"]:
        console.print(_entry(generator["name"], generator["about"]))
        console.print(f"  classes: {', '.join(generator['classes'])}")
        console.print(f"  default sizes: {generator['default_n']} train, {generator['default_n_test']} test")
        console.print("  parameters, for --set NAME=VALUE:")
        for parameter in generator["parameters"]:
            console.print(_parameter_line(parameter))
    counted = "encoder parameters at preset paper with 3 channels; in brackets as the paper counts"
    console.print(_entry("methods", f"for: probekit pretrain NAME --set method.SETTING=VALUE; {counted}"))
    for method in content["methods"]:
        counts = f"{method['encoder_parameters']:,} ({method['encoder_parameters_as_paper']:,})"
        console.print(f"  {method['name']:<17} {counts}  {method['about']}; {method['paper']}")
        _print_settings(method, console)
    for kind, setting in (("backbones", "model.backbone"), ("views", "views.recipe")):
        console.print(_entry(kind, f"--set {setting}=NAME"))
        for entry in content[kind]:
            console.print(f"  {entry['name']:<18} {entry['about']}")
    console.print(_entry("branches", "for: probekit pretrain METHOD --branch NAME --set branch.NAME.SETTING=VALUE"))
    for branch in content["branches"]:
        console.print(f"  {branch['name']:<18} {branch['about']}; {branch['paper']}")
        _print_settings(branch, console)
        for variant in branch["variants"]:
            console.print(f"    {variant['name']:<16} {_joined(variant['options'])}: {variant['about']}")
    console.print(_entry("looks", ""))
    for look in content["looks"]:
        console.print(f"  {look['name']:<18} {look['about']}")
    console.print(_entry("presets", ""))
    for preset in content["presets"]:
        console.print(f"  {preset['name']:<6} {preset['about']}")
    console.print(_entry("sweeps", ""))
    for sweep in content["sweeps"]:
        console.print(f"  {sweep['name']:<13} {sweep['about']}")
    console.print(_entry("official datasets", "for: probekit import NAME ROOT"))
    for dataset in content["datasets"]:
        console.print(f"  {dataset['name']:<14} {dataset['about']}")
    console.print("next: probekit gen rect-tri   or   probekit pretrain conrec")


def _entry(name: str, about: str) -> Text:
    return Text.assemble((name, "bold"), "  ", about)


def _print_settings(entry: dict[str, Any], console: Console) -> None:
    """The settings of a method or branch by default, and what preset `quick` has otherwise."""
    for name, settings in (("", entry["options"]), ("quick: ", entry["quick"])):
        if settings:
            console.print(f"    {name}{_joined(settings)}", highlight=False)


def _joined(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_typed(value)}" for name, value in settings.items())


def _typed(value: Any) -> str:
    """As after --set."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _parameter_line(parameter: dict[str, Any]) -> str:
    if isinstance(parameter["default"], bool):
        span, default = "true or false", str(parameter["default"]).lower()
    else:
        span, default = (
            f"{parameter['low']:g} to {parameter['high']:g} {parameter['unit']}",
            f"{parameter['default']:g}",
        )
    return f"    {parameter['name']:<18}{default:<7}{span:<21}{parameter['role']:<12}{parameter['about']}"


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
        "quick": _changed(method_options(kind), resolve(name, kind, preset="quick", seed=0).method_options),
    }


def _branch(name: str) -> dict[str, Any]:
    kind = get(BRANCHES, "branch", name)
    quick = resolve("simclr", get(METHODS, "method", "simclr"), preset="quick", seed=0, branches=[name])
    return {
        "name": name,
        "about": kind.about,
        "paper": kind.paper,
        "needs": sorted(kind.needs),
        "options": method_options(kind),
        "quick": _changed(method_options(kind), quick.branches[name]),
        "variants": [
            {"name": variant, "about": about, "options": changed}
            for variant, (branch, changed, about) in VARIANTS.items()
            if branch == name
        ],
    }


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if value != before[name]}
