"""`probekit gen`: renders a generator's images to a dataset file."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from generators import GENERATORS
from probekit.commands.hints import after_data
from probekit.commands.locate import check_h5
from probekit.data.generate import generate
from probekit.h5 import DatasetInfo
from probekit.output.png import check_png
from probekit.output.progress import progress_bar
from probekit.registry import nearest
from probekit.settings import parse_overrides


def run_gen(
    generator: str,
    *,
    n: int | None,
    n_test: int | None,
    size: int,
    seed: int,
    out: Path,
    settings: Sequence[str],
    pairs: bool,
    compression: str,
    workers: int | None,
    preview: bool,
    overwrite: bool,
    console: Console,
) -> DatasetInfo:
    """Renders and writes, with progress, and says what was written and what to type next.

    Raises:
        ValueError: For an unknown generator, parameter or compression, a value out of range, a name that does not end
            with .h5, or a preview in whose place stands another file.
        OSError: If the file exists or cannot be written.
    """
    if generator not in GENERATORS:
        raise ValueError(nearest("generator", generator, GENERATORS))
    kind = GENERATORS[generator]
    check_h5(out)
    if preview:
        check_png(out.with_suffix(".png"))
    started = time.monotonic()
    with progress_bar(f"rendering {generator}", console) as advance:
        info = generate(
            generator,
            out=out,
            n=kind.default_n if n is None else n,
            n_test=kind.default_n_test if n_test is None else n_test,
            seed=seed,
            size=size,
            parameters=parse_overrides(settings),
            pairs=pairs,
            compression=compression,
            workers=workers,
            overwrite=overwrite,
            progress=advance,
        )
    images = sum(split.n for split in info.splits.values())
    seconds = time.monotonic() - started
    megabytes = out.stat().st_size / 1e6
    parts = ", ".join(f"{split.n:,} {name}" for name, split in info.splits.items())
    console.print(f"wrote {out}: {parts}; {megabytes:.1f} MB; {images / seconds:,.0f} images/s")
    console.print(f"content hash {info.content_hash}")
    if preview:
        from probekit.data.show import preview as draw_preview

        console.print(f"preview {draw_preview(out)}")
    console.print(after_data(info))
    return info


def gen_once(generator: str, out: Path, console: Console) -> Path:
    """Renders the generator with its defaults, unless the file stands there."""
    if out.exists():
        console.print(f"data: {out} (as it is)")
        return out
    settings: dict[str, Any] = {
        "n": None,
        "n_test": None,
        "size": 128,
        "seed": 0,
        "settings": (),
        "pairs": False,
        "compression": "gzip",
        "workers": None,
        "preview": False,
        "overwrite": False,
    }
    run_gen(generator, out=out, console=console, **settings)
    return out
