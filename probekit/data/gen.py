"""`probekit gen`: renders a generator's images with a progress bar, and says what was written."""

import time
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from rich.console import Console

from generators import GENERATORS, Scenes
from generators.certificates import shipped, told
from probekit.data.generate import generate, generate_shards
from probekit.data.locate import check_h5, named_dataset, newest_dataset
from probekit.h5 import DatasetInfo
from probekit.output.terminal import progress_bar

LOOKED_AT = 64  # samples: some milliseconds


def render_file(
    generator: str, out: Path, console: Console, *, shards: int | None = None, **options: Any
) -> DatasetInfo:
    """Renders and writes, with progress, and says what was written.

    A ValueError as `generate`, and for a name that does not end with .h5; an OSError if the file exists or cannot be
    written. `shards`: how many, in the folder `out`; None is one file. `options`: those of `generate`.
    """
    check_h5(out)
    started = time.monotonic()
    with progress_bar(f"rendering {generator}", console) as advance:
        if shards is None:
            info = generate(generator, out=out, progress=advance, **options)
        else:
            info = generate_shards(generator, shards, out=out, progress=advance, **options)
    images = sum(split.n for split in info.splits.values())
    seconds = time.monotonic() - started
    parts = ", ".join(f"{split.n:,} {name}" for name, split in info.splits.items())
    console.print(f"wrote {info.path}: {parts}; {info.size / 1e6:.1f} MB; {images / seconds:,.0f} images/s")
    console.print(f"content hash {info.content_hash}")
    if generator == Scenes.name:
        return info
    otherwise = f"no certificate of these settings; type: probekit certify {quote(str(out))}"
    for line in (*told(info.certificate, otherwise), *unseen(info)):
        console.print(line)
    return info


def unseen(info: DatasetInfo) -> list[str]:
    """Warnings of class factors that show in no pixel, in frames too small for them, say; of a file's first images."""
    generator = GENERATORS[info.generator](size=info.first.height, parameters=info.parameters)
    masks = generator.render(
        generator.sample(info.seed, info.first.name, np.arange(min(LOOKED_AT, info.first.n)))
    ).masks
    lines = []
    for bit, name in enumerate(generator.class_factors, start=len(generator.objects)):
        hidden = int((~(masks >> bit & 1).any(axis=(1, 2))).sum())
        if hidden:
            lines.append(
                f"warning: {name} shows in no pixel of {hidden} of the first {len(masks)} samples, whose "
                f"counterfactuals are the same images; larger ones may show it: --size {min(2 * generator.size, 1024)}"
            )
    return lines


def list_generators(out: Path, console: Console) -> None:
    """Says what each generator is about and what is proved of it, and draws pairs of all.

    A ValueError if `out` is no picture that may be replaced; an OSError if it cannot be written.
    """
    from probekit.data.gallery import draw_generators
    from probekit.output.pictures import check_picture, names_of

    check_picture(out)
    for name, kind in GENERATORS.items():
        console.print(f"{name}: {kind.about}")
        for line in told(shipped(kind())):
            console.print(f"  {line}")
    console.print(f"picture {names_of(draw_generators(out))}")
    console.print("next: probekit gen NAME   or   probekit list generators   (their parameters)")


def render_once(generator: str, out: Path, console: Console, **options: Any) -> Path:
    """Renders the generator, with its defaults but for the options of `generate`, unless the file stands there."""
    if out.exists():
        console.print(f"data: {out} (as it is)")
    else:
        render_file(generator, out, console, **options)
    return out


def dataset_or_default(named: Path | None, folder: Path, runs: Path, console: Console) -> Path:
    """The named dataset file, or the newest, or the paper's rect-tri set, rendered now; says which it took.

    A ValueError if the named file does not exist.
    """
    if named is not None:
        return named_dataset(named, folder, runs)
    newest = newest_dataset(folder)
    if newest is not None:
        console.print(f"data: {newest} (the newest in {folder})")
        return newest
    console.print(f"data: no file in {folder}; rendering rect-tri, as large as the paper's set")
    return render_once("rect-tri", folder / "rect-tri.h5", console)
