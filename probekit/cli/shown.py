"""`show`, `certify`: what is in a dataset file, a run or a method; whether the answer is in local statistics."""

from collections.abc import Mapping
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probekit.cli import shared
from probekit.output.console import console, errors, print_json
from probekit.run import numbered

if TYPE_CHECKING:
    from rich.console import Console

    from generators.certificates import Certificate
    from probekit.run import Run


@shared.command(
    shared.IMAGES,
    "probekit show data/rect-tri.h5 --verify",
    "probekit show --views conrec",
    "probekit show conrec-rect-tri --data data/hard.h5",
)
def show(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA|RUN",
            help="A dataset (a file, a folder of shards or a pattern) or a run; default: the newest file.",
            autocompletion=shared.shown_like,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="The dataset to show a run or a method on.",
            autocompletion=shared.datasets_like,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which split; default: train, or the first there is.")] = None,
    views: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Draw what a method trains on.", autocompletion=shared.methods_like),
    ] = None,
    seed: shared.Seed = 0,
    whole: Annotated[bool, typer.Option("--verify", help="Read all of the file and check it first.")] = False,
    out: Annotated[
        Path | None, shared.output(help="The picture, NAME.png, .svg or .pdf; default: beside the file, or in the run.")
    ] = None,
    formats: shared.Formats = "",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Describe a dataset file and draw a picture grid; of a run or a method, draw what it is given and predicts."""
    say = errors if as_json else console
    run = None if named is None else _run_or_file(named)
    if whole and (run is not None or views is not None):
        raise ValueError("expected --verify for a dataset file, found it with a run or --views; leave it out")
    if run is not None:
        result = _show_run(run, data, out=out, split=split, views=views, seed=seed, say=say)
    elif named is not None and data is not None:
        raise ValueError(f"expected one dataset file, found {named} and {data}; leave --data out")
    else:
        path = data if named is None else Path(named)
        result = _show_file(path, views, out=out, split=split, seed=seed, whole=whole, draws=not as_json, say=say)
    if as_json:
        print_json(result)


def _run_or_file(named: str) -> "Run | None":
    """The run that was named, or None for a dataset file; a ValueError if it is neither."""
    from probekit.data.locate import guessed, run_named
    from probekit.h5 import is_dataset
    from probekit.registry import nearest
    from probekit.run import find_runs

    run, path = run_named(named, shared.RUNS), Path(named)
    known = [*sorted(map(str, shared.DATA.glob("*.h5"))), *(run.name for run in find_runs(shared.RUNS))]
    if run is None and known and path.suffix != ".h5" and not is_dataset(path) and guessed(path, shared.DATA) is None:
        raise ValueError(nearest("dataset file or run", named, known))
    return run


def _show_run(
    run: "Run", data: Path | None, *, out: Path | None, split: str | None, views: str | None, seed: int, say: "Console"
) -> dict[str, Any]:
    from probekit.data.split import CPU
    from probekit.h5 import read_info
    from probekit.output.hints import after_drawing
    from probekit.output.pictures import names_of
    from probekit.restore.draw import draw_run
    from probekit.restore.opened import open_encoder
    from probekit.weights import LAST

    run.read()
    opened = open_encoder(run, LAST, CPU)
    picture, predicts = draw_run(opened, data, views, out=out, split=split, seed=seed)
    without = "" if predicts else f" (no predictions: {opened.header['method']} has no decoder)"
    say.print(f"picture {names_of(picture)} of {run.name}, {opened.after}{without}")
    say.print(after_drawing(run, read_info(data or run.data())))
    return {"run": run.name, "after": opened.after, "predicts": predicts, "picture": str(picture)}


def _show_file(
    named: Path | None,
    method: str | None,
    *,
    out: Path | None,
    split: str | None,
    seed: int,
    whole: bool,
    draws: bool,
    say: "Console",
) -> dict[str, Any]:
    """A dataset file, with `draws` its description and a picture even without `out`; or what a method is given."""
    from probekit.data.gen import dataset_or_default
    from probekit.data.show import describe, draw_grid, picture_of, render_description
    from probekit.h5 import read_info, verify
    from probekit.output.hints import after_data
    from probekit.output.pictures import names_of
    from probekit.registry import check_named

    path = dataset_or_default(named, shared.DATA, shared.RUNS, say)
    info = (verify if whole else read_info)(path)
    if method is not None:
        from probekit.restore.draw import draw_method

        picture = draw_method(method, path, out=out, split=split, seed=seed)
        say.print(f"picture {names_of(picture)}")
        train = f"next: probekit pretrain {method} --data {quote(str(path))}"
        say.print(train if "train" in info.splits else after_data(info))
        return {"method": method, "data": str(path), "picture": str(picture)}
    if split is not None:
        check_named("split", split, info.splits)
    description = describe(path)
    if draws:
        say.print(render_description(description), soft_wrap=False)
    if whole:
        say.print("verified: every checksum, and the hash of all contents")
    if draws or out is not None:
        picture = draw_grid(path, out or picture_of(path), split=split)
        say.print(f"picture {names_of(picture)}")
    say.print(after_data(info))
    return description


@shared.command(
    shared.IMAGES,
    "probekit certify rect-tri",
    "probekit certify circ-sq --size 64 --set gap=2",
    "probekit certify data/digits.h5 --r 3,5",
)
def certify(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="GENERATOR|DATA",
            help="A generator or a dataset file; default: the newest file.",
            autocompletion=shared.certified_like,
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
    settings: shared.Set = (),  # type: ignore[assignment]
    every: Annotated[bool, typer.Option("--all", help="Certify every generator with its defaults.")] = False,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Say whether counts of small patches tell the classes apart, or the whole alone, with what proves it.

    Any other dataset file: what local statistics reach on it.
    """
    from generators import GENERATORS

    say = errors if as_json else console
    how: dict[str, Any] = {"sides": _sides(sides), "n": n, "seed": seed, "say": say}
    if every:
        if named is not None or size is not None or settings:
            raise ValueError("expected --all alone, found a name, a size or settings; leave them out")
        found = {name: certificate_of(name, {}, **how) for name in GENERATORS}
        for certificate in found.values():
            _show(certificate, say)
        if as_json:
            print_json(found)
    elif named in GENERATORS:
        from probekit.settings import parse_overrides

        about: dict[str, Any] = {"size": 128 if size is None else size, "parameters": parse_overrides(settings)}
        _show(certificate := certificate_of(named, about, **how), say)
        say.print(_drawn(named, **about))
        if as_json:
            print_json(dict(certificate))
    elif size is not None or settings:
        raise ValueError("expected --size and --set with a generator, found them with a file; leave them out")
    else:
        told = _certify_file(named, **how)
        if as_json:
            print_json(told)


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
    named: str | None, *, sides: tuple[int, ...], n: int | None, seed: int, say: "Console"
) -> dict[str, Any]:
    from generators import GENERATORS
    from probekit.certificate.local import DEFAULT_N, locality, locality_blocks
    from probekit.data.gen import dataset_or_default
    from probekit.h5 import is_dataset, read_info
    from probekit.output.hints import after_data
    from probekit.output.terminal import progress_bar, show_blocks
    from probekit.registry import nearest

    if named is not None and Path(named).suffix != ".h5":
        if not is_dataset(Path(named)):
            raise ValueError(
                nearest("generator or dataset file", named, [*GENERATORS, *map(str, shared.DATA.glob("*.h5"))])
            )
        if Path(named).suffix == ".npz":
            raise ValueError(f"expected a dataset file NAME.h5, found {named}; type: probekit import {quote(named)}")
    info = read_info(dataset_or_default(None if named is None else Path(named), shared.DATA, shared.RUNS, say))
    if info.generator in GENERATORS:
        say.print(f"{info.path} was drawn by {info.generator}: its settings are drawn anew, with samples of their own")
        about = {"size": info.first.height, "parameters": info.parameters}
        found = dict(certificate_of(info.generator, about, sides=sides, n=n, seed=seed, say=say))
        _show(found, say)
    else:
        with progress_bar("looking at images", say) as advance:
            found = locality(info, n=DEFAULT_N if n is None else n, sides=sides, seed=seed, progress=advance)
        show_blocks(locality_blocks(found), say)
    say.print(after_data(info))
    return found


def _drawn(name: str, *, size: int, parameters: Mapping[str, float]) -> str:
    """How to draw a dataset file of a generator with these settings, beside what is there."""
    from generators import GENERATORS

    kind = GENERATORS[name]
    values, usual = (kind(size=size, parameters=given).values for given in (parameters, {}))
    words = [name] if size == 128 else [name, "--size", str(size)]
    for key in parameters:
        if values[key] != usual[key]:
            words += ["--set", f"{key}={str(values[key]).lower()}"]
    files = (shared.DATA / f"{stem}.h5" for stem in numbered(name))
    free = next(path for path in files if not path.exists())
    words += ["--out", str(free)] if free.stem != name else []
    return f"next: probekit gen {join(words)}"


def _show(certificate: Any, say: "Console") -> None:
    from probekit.certificate.certify import certificate_blocks
    from probekit.output.terminal import show_blocks

    show_blocks(certificate_blocks(certificate), say)


def _sides(typed: str | None) -> tuple[int, ...]:
    """Turn "3,5,9" into (3, 5, 9), and None into the usual ones, ()."""
    sides = [] if typed is None else [side.strip() for side in typed.split(",")]
    if not all(side.isascii() and side.isdecimal() for side in sides):
        raise ValueError(f"expected whole numbers with commas between them, found {typed!r}; type --r 3,5,9")
    return tuple(map(int, sides))
