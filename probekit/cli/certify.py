"""`probekit certify`: is the answer in local statistics, or in the whole alone?"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probekit.cli.app import DATA, IMAGES, RUNS, Json, Quiet, Seed, Set, command
from probekit.cli.completion import certified_like
from probekit.output.console import console, errors, print_json
from probekit.run import numbered

if TYPE_CHECKING:
    from rich.console import Console

    from generators.certificates import Certificate


@command(
    IMAGES,
    "probekit certify rect-tri",
    "probekit certify circ-sq --size 64 --set gap=2",
    "probekit certify data/digits.h5 --r 3,5",
)
def certify(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="GENERATOR|FILE",
            help="A generator or a dataset file; default: the newest file.",
            autocompletion=certified_like,
        ),
    ] = None,
    sides: Annotated[
        str | None,
        typer.Option("--r", metavar="R,R,...", help="Sides of patches in px, odd; default: those of 3,5,9 that fit."),
    ] = None,
    n: Annotated[
        int | None, typer.Option(min=1, help="Pairs, or images of each split of a file; default: 1000, or 2000.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=16, max=1024, help="Pixels a side of a generator; default: 128.")
    ] = None,
    settings: Set = (),  # type: ignore[assignment]
    every: Annotated[bool, typer.Option("--all", help="Certify every generator with its defaults.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say whether counts of small patches tell the classes apart, or the whole alone, with what proves it.

    Any other dataset file: what local statistics reach on it.
    """
    from generators import GENERATORS
    from probekit.certificate.tables import certificate_blocks
    from probekit.output.terminal import show_blocks

    say, asked = errors if as_json else console, _sides(sides)
    if every:
        if named is not None or size is not None or settings:
            raise ValueError("expected --all alone, found a name, a size or settings; leave them out")
        found = {name: certificate_of(name, {}, sides=asked, n=n, seed=seed, say=say) for name in GENERATORS}
        for certificate in found.values():
            show_blocks(certificate_blocks(certificate), say)
        if as_json:
            print_json(found)
        return
    if named in GENERATORS:
        from probekit.settings import parse_overrides

        about: dict[str, Any] = {"size": 128 if size is None else size, "parameters": parse_overrides(settings)}
        certificate = certificate_of(named, about, sides=asked, n=n, seed=seed, say=say)
        _print(certificate, say, as_json, then=_drawn(named, **about))
        return
    if size is not None or settings:
        raise ValueError("expected --size and --set with a generator, found them with a file; leave them out")
    _certify_file(named, asked, n, seed, say, as_json)


def certificate_of(
    name: str,
    about: Mapping[str, Any],
    *,
    say: "Console",
    sides: tuple[int, ...] = (),
    n: int | None = None,
    seed: int = 0,
) -> "Certificate":
    """The certificate of a generator with these settings, `size` and `parameters`; `sides` () are the usual ones."""
    from generators import GENERATORS
    from generators.certify import bare
    from probekit.certificate import DEFAULT_N, certify
    from probekit.output.terminal import progress_bar

    generator = bare(GENERATORS[name], size=about.get("size", 128), parameters=about.get("parameters", {}))
    with progress_bar(f"certifying {name}", say) as advance:
        n = DEFAULT_N if n is None else n
        return certify(generator, n=n, seed=seed, sides=sides, progress=advance)


def _certify_file(
    named: str | None, sides: tuple[int, ...], n: int | None, seed: int, say: "Console", as_json: bool
) -> None:
    from generators import GENERATORS
    from probekit.certificate.local import DEFAULT_N, locality
    from probekit.certificate.tables import locality_blocks
    from probekit.data.gen import dataset_or_default
    from probekit.h5 import read_info
    from probekit.output.hints import after_data
    from probekit.output.terminal import progress_bar, show_blocks
    from probekit.registry import nearest

    if named is not None and Path(named).suffix != ".h5" and not Path(named).exists():
        raise ValueError(nearest("generator or dataset file", named, [*GENERATORS, *map(str, DATA.glob("*.h5"))]))
    info = read_info(dataset_or_default(None if named is None else Path(named), DATA, RUNS, say))
    if info.generator in GENERATORS:
        say.print(f"{info.path} was drawn by {info.generator}: its settings are drawn anew, with samples of their own")
        about = {"size": info.first.height, "parameters": info.parameters}
        certificate = certificate_of(info.generator, about, sides=sides, n=n, seed=seed, say=say)
        _print(certificate, say, as_json, then=after_data(info))
        return
    with progress_bar("looking at images", say) as advance:
        found = locality(info, n=DEFAULT_N if n is None else n, sides=sides, seed=seed, progress=advance)
    show_blocks(locality_blocks(found), say)
    say.print(after_data(info))
    if as_json:
        print_json(found)


def _drawn(name: str, *, size: int, parameters: Mapping[str, float]) -> str:
    """How to draw a dataset file of a generator with these settings, beside what is there."""
    from generators import GENERATORS

    kind = GENERATORS[name]
    values, usual = (kind(size=size, parameters=given).values for given in (parameters, {}))
    words = [name] if size == 128 else [name, "--size", str(size)]
    for key in parameters:
        if values[key] != usual[key]:
            words += ["--set", f"{key}={str(values[key]).lower()}"]
    files = (DATA / f"{stem}.h5" for stem in numbered(name))
    free = next(path for path in files if not path.exists())
    words += ["--out", str(free)] if free.stem != name else []
    return f"next: probekit gen {shlex.join(words)}"


def _print(certificate: "Certificate", say: "Console", as_json: bool, *, then: str) -> None:
    from probekit.certificate.tables import certificate_blocks
    from probekit.output.terminal import show_blocks

    show_blocks(certificate_blocks(certificate), say)
    say.print(then)
    if as_json:
        print_json(dict(certificate))


def _sides(typed: str | None) -> tuple[int, ...]:
    """Turn "3,5,9" into (3, 5, 9), and None into the usual ones, ()."""
    if typed is None:
        return ()
    try:
        return tuple(int(side) for side in typed.split(","))
    except ValueError:
        raise ValueError(f"expected whole numbers with commas between them, found {typed!r}; type --r 3,5,9") from None
