"""`import`: dataset files of images that are there."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from probekit.cli import shared
from probekit.cli.images import about
from probekit.output.console import console, errors, print_json

folders, official = shared.of_group("Folders of images"), shared.of_group("Official datasets")
tables = shared.of_group("Tables, arrays, shards")

Size = Annotated[
    int | None, typer.Option(min=8, help="Pixels a side; official datasets: 224, or their own where it is small.")
]
Bits = Annotated[int | None, typer.Option(min=1, max=16, help="Bits that the pixels use of those they have.")]
Depth = Annotated[int | None, folders(min=1, help="How many levels down the class folders are.")]
Table = Annotated[Path | None, folders(exists=True, dir_okay=False, help="A table with the labels of the files.")]
Column = Annotated[str | None, folders(help="Its column of classes; NAME,NAME: classes of 0 and 1.")]
Subset = Annotated[bool, official("--subset", help="Take what is there, however many.")]
Joined = Annotated[bool, official("--train-with-val", help="Where there is an official val split: join it to train.")]
Extra = Annotated[bool, official("--train-with-extra", help="svhn: join the extra images to train.")]
Unlabeled = Annotated[bool, official("--unlabeled", help="stl10: take the images without labels, alone.")]
Fold = Annotated[int | None, official(min=1, max=10, help="dtd, sun397, stl10: which official division.")]
Labels = Annotated[
    str | None,
    tables(metavar="KEY", help="The column, array, ending, factor or kind of the labels, or none (docs/datasets.md)."),
]
Images = Annotated[
    str | None,
    tables(metavar="KEY", help="The column, array or ending of the images; {split} in it: train, val, test."),
]
Masks = Annotated[
    Path | None, typer.Option(help="A folder with a PNG of masks for each image: images/a/1.jpg, MASKS/a/1.png.")
]
MaskNames = Annotated[str, typer.Option(metavar="NAME,NAME", help="The masks that 1, 2, ... mean; one: all but 0.")]
Group = Annotated[str | None, tables(metavar="COLUMN", help="Keep it; never divide what has one value of it.")]
Alone = Annotated[bool, typer.Option("--no-duplicates", help="Do not look for test images that are in train, too.")]
Boxes = Annotated[
    bool,
    official(
        "--boxes",
        help="voc2007, voc2012, coco2017: keep boxes, of coco2017 masks of instances, too, for probekit detect.",
    ),
]
Wnids = Annotated[
    Path | None,
    official(
        exists=True,
        dir_okay=False,
        help="imagenet, inat2019: a file of wnids, or of species and super-classes, one a line.",
    ),
]
NClasses = Annotated[int | None, official(min=1, help="imagenet: so many, chosen by --seed.")]
Fraction = typer.Option(min=0, max=0.9, callback=shared.finite, help="Stratified share of the training images.")
TestFraction = typer.Option(
    min=0, max=0.9, callback=shared.finite, help="Stratified share of all images; digits, eurosat, caltech101: 0.2."
)
Values = typer.Option("--range", metavar="LOW,HIGH", help="The values of black and white; default: seen or asked.")
ImportOut = Annotated[Path | None, shared.output(help="The file; default: data/SOURCE.h5.")]
Kept = Annotated[
    str | None,
    shared.output(
        "--store",
        metavar="pixels|short:N|original",
        help="Squares of pixels; or photographs whole, the shorter side N px at most; photographs of official "
        "datasets: short:512.",
    ),
]
TestCrop = Annotated[
    str | None,
    shared.output(
        metavar="RESIZE:SIDE",
        help="How photographs kept whole are tested: the shorter side, and the middle square; default: 256:224.",
    ),
]
Stored = shared.output(min=0, callback=shared.finite, help="Keep more pixels than this as JPEG; official datasets: 8.")


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
    size: Size = None,
    resize: Annotated[Literal["crop", "squash"] | None, typer.Option(help="The centre square, or all of it.")] = None,
    val_fraction: Annotated[float, Fraction] = 0.0,
    test_fraction: Annotated[float | None, TestFraction] = None,
    val_as_test: Annotated[bool, typer.Option("--val-as-test", help="Take the val split as test.")] = False,
    skip_split: Annotated[Literal["val", "test"] | None, typer.Option(help="Leave a split out.")] = None,
    bits: Bits = None,
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
    masks: Masks = None,
    mask_names: MaskNames = "mask",
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
    chosen |= {"unlabeled": unlabeled, "boxes": boxes, "fold": fold, "labels": labels}
    chosen |= {"classes": classes, "n_classes": n_classes}
    choices = Choices(seed=seed, **chosen)
    asked: dict[str, Any] = {"size": size, "resize": resize, "max_gb": max_gb, "bits": bits, "seed": seed}
    asked |= {"val_fraction": val_fraction, "test_fraction": test_fraction, "val_as_test": val_as_test}
    asked |= {"skip_split": skip_split, "depth": depth, "labels_csv": labels_csv, "column": column}
    asked |= {"images": images, "labels": labels, "group": group, "duplicates": not no_duplicates}
    asked |= {"store": store, "test_crop": test_crop, "masks": masks, "mask_names": tuple(mask_names.split(","))}
    options = Options(range=None if values is None else parse_range(values), **asked)
    out, say = out or shared.DATA / f"{default_name(source)}.h5", errors if as_json else console
    how: dict[str, Any] = {"skip_broken": skip_broken, "compression": compression, "overwrite": overwrite}
    how |= {"shard": None if shard is None else parse_shard(shard)}
    info, skipped = run_import(source, root, choices, options, out=out, console=say, **how)
    if as_json:
        print_json(about(info) | {"skipped": [asdict(item) for item in skipped]})
