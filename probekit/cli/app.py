"""The application, the options that several commands share, and where files lie by default."""

import math
from pathlib import Path
from typing import Annotated

import typer

from probekit import __version__
from probekit.output.console import show_tracebacks
from probekit.registry import POOLS

DATA = Path("data")
RUNS = Path("runs")
SWEEPS = Path("sweeps")
REPORTS = Path("reports")

app = typer.Typer(
    name="probekit",
    help="What does an image encoder really see: the fine detail, or only the gist?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Set = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="Change one setting; may be repeated.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides all that is random.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Weights that are not whole, too: the rest stays random, and is marked.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Pool = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"In place of the encoder's own pooling: {', '.join(POOLS)}.")
]
DataFile = Annotated[Path | None, typer.Option("--data", help="A dataset file; without one the newest in data/.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:i].")]
Compression = Annotated[str, typer.Option(help="none, lzf or gzip.")]


def finite(value: float | None) -> float | None:
    """Refuses NaN and infinity for an option: NaN is neither below nor above any limit, and so within all of them."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, found {value}")
    return value


def _print_version(asked: bool) -> None:
    if asked:
        print(f"probekit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What does an image encoder really see: the fine detail, or only the gist?"""
    show_tracebacks(debug)
