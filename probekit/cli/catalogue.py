"""`probekit list`: what there is, loaded where it is listed."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from probekit.registry import BRANCHES, MAPS, METHODS, POOLS, VARIANTS, get
from probekit.settings import presets

CHANNELS = 3  # parameter counts are for 3 channels at preset `paper`, as in the ConRec paper's Table 2


def catalogue(kinds: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Some of `KINDS` as plain data, a list of entries each with name and about; the shape is a promise to scripts."""
    return {kind: KINDS[kind][0]() for kind in kinds}


def print_catalogue(content: Mapping[str, list[dict[str, Any]]], console: Console) -> None:
    """The same for readers: all there is of one kind, or the names of several."""
    if len(content) > 1:
        for kind, entries in content.items():
            console.print(_entry(kind, ", ".join(entry["name"] for entry in entries)), soft_wrap=False)
        console.print(f"next: probekit list {next(iter(content))}   (what they are, and their parameters)")
        return
    ((kind, entries),) = content.items()
    _, title, about, show = KINDS[kind]
    if title:
        console.print(_entry(title, about))
    for entry in entries:
        show(entry, console)
    if kind == "generators":
        console.print("parameters of all generators but those named above")
        for parameter in _common().values():
            console.print(_parameter_line(parameter))
    console.print("next: probekit gen rect-tri   or   probekit pretrain conrec")


def _generators() -> list[dict[str, Any]]:
    from generators import GENERATORS, Scenes
    from generators.certificates import shipped

    found = [kind.describe() | {"certificate": shipped(kind())} for kind in GENERATORS.values()]
    return [*found, Scenes.describe() | {"certificate": None}]


def _sweeps() -> list[dict[str, Any]]:
    from probekit.sweep.definition import describe, shipped

    return [describe(name) for name in shipped()]


def _table(module: str, name: str, *more: str) -> Callable[[], list[dict[str, Any]]]:
    """The entries of a table of that name; imported when they are listed."""
    return lambda: _named(getattr(importlib.import_module(module), name), *more)


def _named(table: Mapping[str, Any], *more: str) -> list[dict[str, Any]]:
    """Name and about of each entry, which is or has its text, and what else is wanted of it."""
    return [
        {"name": name, "about": entry if isinstance(entry, str) else entry.about}
        | {key: getattr(entry, key) for key in more}
        for name, entry in table.items()
    ]


def _entry(name: str, about: str) -> Text:
    return Text.assemble((name, "bold"), "  ", about)


def _show(entry: dict[str, Any], console: Console) -> None:
    console.print(f"  {entry['name']:<18} {entry['about']}")


def _show_dataset(entry: dict[str, Any], console: Console) -> None:
    labels = f"; --labels {', '.join(entry['labels'])}" if entry["labels"] else ""
    console.print(f"  {entry['name']:<18} {entry['about']}{labels}")


def _show_generator(generator: dict[str, Any], console: Console) -> None:
    from generators.certificates import told

    console.print(_entry(generator["name"], generator["about"]))
    console.print(f"  classes: {', '.join(generator['classes'])}")
    console.print(f"  default sizes: {generator['default_n']} train, {generator['default_n_test']} test")
    for line in told(generator["certificate"]):
        console.print(f"  {line}")
    common = _common()
    lacks = common.keys() - {parameter["name"] for parameter in generator["parameters"]}
    without = f", but {', '.join(name for name in common if name in lacks)}" if lacks else ""
    console.print(f"  parameters, for --set NAME=VALUE, beside those of all generators{without}:")
    for parameter in generator["parameters"]:
        if parameter != common.get(parameter["name"]):
            console.print(_parameter_line(parameter))


def _common() -> dict[str, dict[str, Any]]:
    from generators.parameters import COMMON

    return {parameter.name: asdict(parameter) for parameter in COMMON}


def _show_method(method: dict[str, Any], console: Console) -> None:
    counts = f"{method['encoder_parameters']:,} ({method['encoder_parameters_as_paper']:,})"
    console.print(f"  {method['name']:<17} {counts}  {method['about']}; {method['paper']}")
    _print_settings(method, console)


def _show_branch(branch: dict[str, Any], console: Console) -> None:
    console.print(f"  {branch['name']:<18} {branch['about']}; {branch['paper']}")
    _print_settings(branch, console)
    for variant in branch["variants"]:
        console.print(f"    {variant['name']:<16} {_joined(variant['options'])}: {variant['about']}")


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
    default, span = _typed(parameter["default"]), "true or false"
    if not isinstance(parameter["default"], bool):
        default = f"{parameter['default']:g}"
        span = f"{parameter['low']:g} to {parameter['high']:g} {parameter['unit']}"
    return f"    {parameter['name']:<18}{default:<7}{span:<21}{parameter['role']:<12}{parameter['about']}"


def _method(name: str) -> dict[str, Any]:
    import torch

    from probekit.config import resolve
    from probekit.models.encoder import count_as_paper, count_parameters
    from probekit.restore.build import fresh_encoder
    from probekit.settings import method_options

    kind = get(METHODS, "method", name)
    options, quick = method_options(kind), resolve(name, kind, preset="quick", seed=0)
    with torch.device("meta"):
        encoder = fresh_encoder(resolve(name, kind, preset="paper", seed=0), channels=CHANNELS)
    return {
        "name": name,
        "about": kind.about,
        "paper": kind.paper,
        "encoder_parameters": count_parameters(encoder),
        "encoder_parameters_as_paper": count_as_paper(encoder),
        "recipe": kind.recipe,
        "provides": sorted(kind.provides),
        "options": options,
        "quick": _changed(options, quick.method_options),
    }


def _branch(name: str) -> dict[str, Any]:
    from probekit.config import resolve
    from probekit.settings import method_options

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


_COUNTED = "encoder parameters at preset paper with 3 channels; in brackets as the paper counts"
_Show = Callable[[dict[str, Any], Console], None]
_TO_PRETRAIN = "for: probekit pretrain NAME --set method.SETTING=VALUE"
_TO_ADD = "for: probekit pretrain METHOD --branch NAME --set branch.NAME.SETTING=VALUE"
_TO_POOL = "for: probekit probe RUN --pool NAME; heatmap and export-embeddings, too"
# How the entries of each kind are found; its title and what it is for; how an entry is shown.
KINDS: dict[str, tuple[Callable[[], list[dict[str, Any]]], str, str, _Show]] = {
    "generators": (_generators, "", "", _show_generator),
    "methods": (lambda: list(map(_method, METHODS)), "methods", f"{_TO_PRETRAIN}; {_COUNTED}", _show_method),
    "backbones": (_table("probekit.models.backbones", "BACKBONES"), "backbones", "--set model.backbone=NAME", _show),
    "views": (_table("probekit.views.recipes", "RECIPES"), "views", "--set views.recipe=NAME", _show),
    "branches": (lambda: list(map(_branch, BRANCHES)), "branches", _TO_ADD, _show_branch),
    "maps": (
        lambda: _named({name: get(MAPS, "map", name) for name in MAPS}),
        "attribution maps",
        "for: probekit heatmap",
        _show,
    ),
    "poolings": (lambda: _named(POOLS), "poolings", _TO_POOL, _show),
    "presets": (lambda: _named(presets()), "presets", "for: probekit pretrain METHOD --preset NAME", _show),
    "sweeps": (_sweeps, "sweeps", "for: probekit sweep NAME", _show),
    "datasets": (
        _table("probekit.data.importers.official", "OFFICIAL", "needs", "sizes", "classes", "labels"),
        "official datasets",
        "for: probekit import NAME ROOT",
        _show_dataset,
    ),
}
