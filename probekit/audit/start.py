"""From what is typed to an audit: its table, its picture, and what to type next."""

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import join
from typing import Any

from rich.console import Console

from probekit.audit.asked import chosen
from probekit.audit.draw import draw_audit
from probekit.audit.measure import audit, read_scenes
from probekit.audit.tables import audit_blocks
from probekit.h5 import verify
from probekit.output.pictures import check_picture, names_of
from probekit.output.terminal import show_blocks
from probekit.registry import METHODS


def run_audit(
    name: str,
    data: Callable[[], Path],
    *,
    n: int,
    views: int,
    preset: str,
    settings: Sequence[str],
    seed: int,
    out: Path | None,
    draws: bool,
    console: Console,
) -> dict[str, Any]:
    """Audits a recipe, a method's, or all; see `asked.chosen` and `measure.audit`.

    `data` gives the dataset file, asked for once the rest is known to be sound; `out`: the picture, None beside that
    file; `draws`: whether there is one. A ValueError for a name, a setting, data or a picture that do not fit.
    """
    recipes = chosen(name, preset=preset, settings=settings)
    if out is not None:
        check_picture(out)
    info = verify(data())
    picture = out or info.path.with_name(f"{info.name}-audit-{name}.png")
    if draws:
        check_picture(picture)
    truth = read_scenes(info, n)
    found = audit(truth, recipes, views=views, seed=seed, say=lambda line: console.print(f"  {line}"))
    show_blocks(audit_blocks(found), console)
    if draws:
        console.print(f"picture {names_of(draw_audit(truth, recipes, seed=seed, out=picture))}")
    method = name if name in METHODS else f"METHOD --set views.recipe={name}" if len(recipes) == 1 else "METHOD"
    given = [str(info.path)] + ["--preset", preset] * (preset != "paper")
    given += [word for setting in settings for word in ("--set", setting)]
    console.print(f"next: probekit pretrain {method} --data {join(given)}")
    return found
