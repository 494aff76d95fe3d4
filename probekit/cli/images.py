"""`gen`, `import`: dataset files."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from probekit.cli import shared
from probekit.output.console import console, errors, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from generators.certificates import Certificate
    from probekit.h5 import DatasetInfo

FOLDERS, OFFICIAL, TABLES = "Folders of images", "Official datasets", "Tables, arrays, shards"


Listed = Annotated[bool, typer.Option("--list", help="Draw a pair of every generator, and write nothing else.")]
Certify = Annotated[
    bool, typer.Option("--certify", help="Prove what decides the classes under these settings (some seconds).")
]
Shards = Annotated[
    int | None, typer.Option(min=1, help="Write N shards, in the folder --out.", rich_help_panel=shared.OUTPUT)
]
Preview = Annotated[
    bool, typer.Option("--preview", help="Also draw a PNG grid with the evidence.", rich_help_panel=shared.OUTPUT)
]


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
    out: Annotated[
        Path | None, typer.Option(help="The file; default: data/GENERATOR.h5.", rich_help_panel=shared.OUTPUT)
    ] = None,
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
    from probekit.registry import nearest

    check_h5(out)
    if not out.is_dir():  # shards are looked at when all their settings are known
        check_target(out, compression="none", overwrite=overwrite)
    if generator == Scenes.name:
        raise ValueError(
            "expected --certify of one shape or figure an image, found scenes, which have several; leave it out"
        )
    if generator not in GENERATORS:
        raise ValueError(nearest("generator", generator, GENERATORS))
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


Depth = Annotated[
    int | None, typer.Option(min=1, help="How many levels down the class folders are.", rich_help_panel=FOLDERS)
]
Table = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="A table with the labels of the files.", rich_help_panel=FOLDERS),
]
Column = Annotated[
    str | None, typer.Option(help="Its column of classes; NAME,NAME: classes of 0 and 1.", rich_help_panel=FOLDERS)
]
Subset = Annotated[bool, typer.Option("--subset", help="Take what is there, however many.", rich_help_panel=OFFICIAL)]
Joined = Annotated[
    bool,
    typer.Option(
        "--train-with-val", help="Where there is an official val split: join it to train.", rich_help_panel=OFFICIAL
    ),
]
Extra = Annotated[
    bool, typer.Option("--train-with-extra", help="svhn: join the extra images to train.", rich_help_panel=OFFICIAL)
]
Unlabeled = Annotated[
    bool, typer.Option("--unlabeled", help="stl10: take the images without labels, alone.", rich_help_panel=OFFICIAL)
]
Fold = Annotated[
    int | None,
    typer.Option(min=1, max=10, help="dtd, sun397, stl10: which official division.", rich_help_panel=OFFICIAL),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="The column, array, ending, factor or kind of the labels, or none (docs/datasets.md).",
        rich_help_panel=TABLES,
    ),
]
Images = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="The column, array or ending of the images; {split} in it: train, val, test.",
        rich_help_panel=TABLES,
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Keep it; never divide what has one value of it.",
        rich_help_panel=TABLES,
    ),
]
Alone = Annotated[bool, typer.Option("--no-duplicates", help="Do not look for test images that are in train, too.")]
Boxes = Annotated[
    bool,
    typer.Option(
        "--boxes",
        help="voc2007, voc2012, coco2017: keep boxes, of coco2017 masks of instances, too, for probekit detect.",
        rich_help_panel=OFFICIAL,
    ),
]
Wnids = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="imagenet, inat2019: a file of wnids, or of species and super-classes, one a line.",
        rich_help_panel=OFFICIAL,
    ),
]
NClasses = Annotated[
    int | None, typer.Option(min=1, help="imagenet: so many, chosen by --seed.", rich_help_panel=OFFICIAL)
]
Fraction = typer.Option(min=0, max=0.9, callback=shared.finite, help="Stratified share of the training images.")
TestFraction = typer.Option(
    min=0, max=0.9, callback=shared.finite, help="Stratified share of all images; digits, eurosat, caltech101: 0.2."
)
Values = typer.Option("--range", metavar="LOW,HIGH", help="The values of black and white; default: seen or asked.")
ImportOut = Annotated[
    Path | None, typer.Option(help="The file; default: data/SOURCE.h5.", rich_help_panel=shared.OUTPUT)
]
Kept = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="pixels|short:N|original",
        help="Squares of pixels; or photographs whole, the shorter side N px at most; photographs of official "
        "datasets: short:512.",
        rich_help_panel=shared.OUTPUT,
    ),
]
TestCrop = Annotated[
    str | None,
    typer.Option(
        metavar="RESIZE:SIDE",
        help="How photographs kept whole are tested: the shorter side, and the middle square; default: 256:224.",
        rich_help_panel=shared.OUTPUT,
    ),
]
Stored = typer.Option(
    min=0,
    callback=shared.finite,
    help="Keep more pixels than this as JPEG; official datasets: 8.",
    rich_help_panel=shared.OUTPUT,
)


@shared.command(
    shared.IMAGES,
    "probekit import pictures --size 128 --test-fraction 0.2",
    "probekit import scans --size 224 --labels-csv labels.csv --column grade",
    "probekit import scans.h5 --images '{split}/x' --labels '{split}/y'",
    "probekit import cub200 ~/sets/CUB_200_2011 --test-crop 256:224",
    "probekit import cifar100 ~/sets/cifar-100-python --labels coarse",
    name="import",
)
def import_(
    source: Annotated[str, typer.Argument(help="A file, a folder, or an official dataset (probekit list datasets).")],
    root: Annotated[Path | None, typer.Argument(help="After a name: the folder of its unpacked files.")] = None,
    size: Annotated[
        int | None, typer.Option(min=8, help="Pixels a side; official datasets: 224, or their own where it is small.")
    ] = None,
    resize: Annotated[Literal["crop", "squash"] | None, typer.Option(help="The centre square, or all of it.")] = None,
    val_fraction: Annotated[float, Fraction] = 0.0,
    test_fraction: Annotated[float | None, TestFraction] = None,
    val_as_test: Annotated[bool, typer.Option("--val-as-test", help="Take the val split as test.")] = False,
    skip_split: Annotated[Literal["val", "test"] | None, typer.Option(help="Leave a split out.")] = None,
    bits: Annotated[
        int | None, typer.Option(min=1, max=16, help="Bits that the pixels use of those they have.")
    ] = None,
    values: Annotated[str | None, Values] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="List and skip unreadable images.")] = False,
    seed: shared.Seed = 0,
    depth: Depth = None,
    labels_csv: Table = None,
    column: Column = None,
    subset: Subset = False,
    train_with_val: Joined = False,
    images: Images = None,
    train_with_extra: Extra = False,
    unlabeled: Unlabeled = False,
    fold: Fold = None,
    labels: Labels = None,
    group: Group = None,
    no_duplicates: Alone = False,
    boxes: Boxes = False,
    classes: Wnids = None,
    n_classes: NClasses = None,
    out: ImportOut = None,
    store: Kept = None,
    test_crop: TestCrop = None,
    max_gb: Annotated[float | None, Stored] = None,
    compression: shared.CompressionOrDefault = None,
    shard: shared.OneShard = None,
    overwrite: shared.Overwrite = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Turn images in folders, tables, shards or arrays, or an official dataset, into a dataset file."""
    from probekit.data.importers import Choices, Options, default_name, parse_range, run_import
    from probekit.h5.planned import parse_shard

    chosen: dict[str, Any] = {"subset": subset, "train_with_val": train_with_val, "train_with_extra": train_with_extra}
    chosen |= {
        "unlabeled": unlabeled,
        "boxes": boxes,
        "fold": fold,
        "labels": labels,
        "classes": classes,
        "n_classes": n_classes,
    }
    choices = Choices(seed=seed, **chosen)
    asked: dict[str, Any] = {"size": size, "resize": resize, "max_gb": max_gb, "bits": bits, "seed": seed}
    asked |= {"val_fraction": val_fraction, "test_fraction": test_fraction, "val_as_test": val_as_test}
    asked |= {"skip_split": skip_split, "depth": depth, "labels_csv": labels_csv, "column": column}
    asked |= {"images": images, "labels": labels, "group": group, "duplicates": not no_duplicates}
    asked |= {"store": store, "test_crop": test_crop}
    options = Options(range=None if values is None else parse_range(values), **asked)
    out, say = out or shared.DATA / f"{default_name(source)}.h5", errors if as_json else console
    how: dict[str, Any] = {"skip_broken": skip_broken, "compression": compression, "overwrite": overwrite}
    how |= {"shard": None if shard is None else parse_shard(shard)}
    info, skipped = run_import(source, root, choices, options, out=out, console=say, **how)
    if as_json:
        print_json(about(info) | {"skipped": [asdict(item) for item in skipped]})
