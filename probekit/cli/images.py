"""`gen`: dataset files of rendered images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probekit.cli import shared
from probekit.output.console import console, errors, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from generators.certificates import Certificate
    from probekit.h5 import DatasetInfo

Listed = Annotated[bool, typer.Option("--list", help="Draw a pair of every generator, and write nothing else.")]
Certify = Annotated[
    bool, typer.Option("--certify", help="Prove what decides the classes under these settings (some seconds).")
]
Shards = Annotated[int | None, shared.output(min=1, help="Write N shards, in the folder --out.")]
Preview = Annotated[bool, shared.output("--preview", help="Also draw a PNG grid with the evidence.")]


@shared.command(
    shared.IMAGES,
    "probekit gen rect-tri --preview",
    "probekit gen circ-sq --n 2000 --n-test 500 --size 64 --pairs",
    "probekit gen rect-tri --set corner_radius=8 --out data/hard.h5",
    "probekit gen rect-tri --n 1000000 --shards 50 --out data/million.h5",
    "probekit gen --list",
)
def gen(
    generator: Annotated[str, typer.Argument(help="A generator (probekit list generators).")] = "rect-tri",
    listed: Listed = False,
    n: Annotated[int | None, typer.Option(min=0, help="Training images, 0 for none; default: the paper's.")] = None,
    n_test: Annotated[int | None, typer.Option(min=0, help="Test images, 0 for none; default: the paper's.")] = None,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Pixels a side; the geometry scales.")] = 128,
    pairs: Annotated[bool, typer.Option("--pairs", help="Add every image's counterfactuals; n counts bases.")] = False,
    no_masks: Annotated[bool, typer.Option("--no-masks", help="Images alone: a smaller file, sooner.")] = False,
    settings: shared.Set = (),  # type: ignore[assignment]
    certify: Certify = False,
    seed: shared.Seed = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; default: one a core, up to 8.")] = None,
    out: Annotated[Path | None, shared.output(help="The file; default: data/GENERATOR.h5.")] = None,
    compression: shared.Compression = "gzip",
    shard: shared.OneShard = None,
    shards: Shards = None,
    engine: shared.Engine = "local",
    slurm: shared.Slurm = (),  # type: ignore[assignment]
    preview: Preview = False,
    overwrite: shared.Overwrite = False,
    formats: shared.Formats = "",
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Render parametrized shape images to a dataset, with every factor, mask and counterfactual known."""
    from probekit.settings import parse_overrides

    if listed:
        others = (n, n_test, workers, shard, shards, *settings, *slurm)
        plain = generator == "rect-tri" and size == 128 and not seed and engine == "local"
        if not plain or any(each is not None for each in others) or pairs or no_masks or certify or preview:
            raise ValueError(
                "expected --list, which draws every generator, with --out, --json and -q alone, found another option; "
                "leave it out"
            )
        _draw_all(out, as_json=as_json)
        return
    out, say = out or shared.DATA / f"{generator}.h5", errors if as_json else console
    _check_shards(shard, shards, engine, slurm, replaces=overwrite, preview=preview)
    how: dict[str, Any] = {"n": n, "n_test": n_test, "size": size, "seed": seed, "pairs": pairs, "masks": not no_masks}
    how |= {"parameters": parse_overrides(settings), "compression": compression, "workers": workers}
    certificate = _certificate(generator, out, how, overwrite, say) if certify else None
    how |= {"certificate": certificate}
    if engine == "slurm":
        from probekit.sweep.shards import submit_shards

        assert shards is not None
        result = submit_shards(generator, shards, out, slurm, say, **how)
    else:
        result = _draw(generator, out, say, shard, preview=preview, shards=shards, overwrite=overwrite, **how)
    if as_json:
        print_json(result)


def _draw_all(out: Path | None, *, as_json: bool) -> None:
    """A picture of every generator."""
    from probekit.cli.catalogue import KINDS
    from probekit.data.gen import list_generators

    list_generators(out or shared.DATA / "generators.png", errors if as_json else console)
    if as_json:
        print_json({"generators": KINDS["generators"][0]()})


def _check_shards(
    shard: str | None, shards: int | None, engine: str, slurm: list[str], *, replaces: bool, preview: bool
) -> None:
    """Refuses options of shards that do not go together."""
    if shard is not None and (shards is not None or preview):
        raise ValueError("expected --shard alone, found --shards or --preview with it; leave one out")
    if engine == "slurm" and (shards is None or preview or replaces):
        raise ValueError("expected --shards N with --engine slurm, without --preview and --overwrite")
    if engine == "local" and slurm:
        raise ValueError("expected --engine slurm with --slurm, found --engine local; type --engine slurm")


def _draw(
    generator: str, out: Path, say: "Console", shard: str | None, *, preview: bool, **options: Any
) -> dict[str, Any]:
    """Renders here; what the dataset or the shard holds, for --json."""
    from probekit.data.gen import render_file
    from probekit.h5.planned import parse_shard
    from probekit.output.hints import after_data, after_shard

    if preview:
        from probekit.output.pictures import check_picture

        check_picture(out.with_suffix(".png"))
    info = render_file(generator, out, say, shard=None if shard is None else parse_shard(shard), **options)
    if preview:
        from probekit.data.show import preview as draw
        from probekit.output.pictures import names_of

        say.print(f"preview {names_of(draw(out))}")
    say.print(after_data(info) if info.shard is None else after_shard(out, info.shard))
    return about(info)


def _certificate(
    generator: str, out: Path, how: dict[str, Any], overwrite: bool, say: "Console"
) -> "Certificate | None":
    """What `generate` is to store, computed unless it ships with the generator; what it would refuse is refused."""
    from generators import GENERATORS, Scenes
    from generators.certificates import shipped
    from probekit.cli.shown import certificate_of
    from probekit.data.generate import counts
    from probekit.data.locate import check_h5
    from probekit.h5 import check_target
    from probekit.registry import check_named

    check_h5(out)
    if not out.is_dir():  # shards are looked at when all their settings are known
        check_target(out, compression="none", overwrite=overwrite)
    if generator == Scenes.name:
        raise ValueError(
            "expected --certify of one shape or figure an image, found scenes, which have several; leave it out"
        )
    check_named("generator", generator, GENERATORS)
    drawn = GENERATORS[generator](size=how["size"], parameters=how["parameters"])
    counts(drawn, how["n"], how["n_test"])
    out.parent.mkdir(parents=True, exist_ok=True)
    return None if shipped(drawn) is not None else certificate_of(generator, how, say=say)


def about(info: "DatasetInfo") -> dict[str, Any]:
    """What a new dataset file holds, for --json."""
    return {
        "path": str(info.path),
        "generator": info.generator,
        "seed": info.seed,
        "parameters": info.parameters,
        "classes": list(info.classes),
        "splits": {name: split.n for name, split in info.splits.items()},
        "content_hash": info.content_hash,
        "certificate": info.certificate,
    }
