"""The application, the options that several commands share, what a shell offers after TAB, and where files lie."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from probekit import __version__
from probekit.cli.catalogue import KINDS
from probekit.cli.pages import glossary, pages
from probekit.output.console import be_quiet, show_tracebacks
from probekit.output.formats import choose
from probekit.registry import BRANCHES, METHODS, POOLS, VARIANTS
from probekit.run import find_runs, open_run

# Typer's, around a default that stands elsewhere than in the signature.
BRACKETS = re.compile(r"\[default: \(([^)]*)\)")
LONGEST = 200  # characters of what a command does, on as many lines as it takes

DATA = Path("data")
RUNS = Path("runs")
SWEEPS = Path("sweeps")
REPORTS = Path("reports")

# The groups of `probekit --help`.
IMAGES, TRAINING, MEASURING, OVERVIEW = "Data", "Training", "Measuring", "Finding your way"

Function = TypeVar("Function", bound=Callable[..., None])


class Command(TyperCommand):
    """A command whose options stand under their `rich_help_panel`, and whose epilog is one example a line.

    Typer's own boxes would cost the import of rich's Markdown.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes each group; those of no group first, arguments before options."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            plain = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
            if record := parameter.get_help_record(ctx):
                written = (record[0], BRACKETS.sub(r"[default: \1", record[1]))
                rows.setdefault(getattr(parameter, "rich_help_panel", None) or plain, []).append(written)
        first = {"Arguments": 0, "Options": 1}
        _write(dict(sorted(rows.items(), key=lambda group: first.get(group[0], 2))), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples as they would be typed."""
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))


class Group(TyperGroup):
    """The application: its commands stand under their `rich_help_panel`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes each group, in the order in which the commands were added."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            group = getattr(command, "rich_help_panel", None) or "Commands"
            rows.setdefault(group, []).append((name, command.get_short_help_str(LONGEST)))
        _write(rows, formatter)


def _write(groups: Mapping[str, Sequence[tuple[str, str]]], formatter: Any) -> None:
    for title, rows in groups.items():
        with formatter.section(title):
            formatter.write_dl(rows)


app = typer.Typer(
    name="probekit",
    cls=Group,
    help="What does an image encoder really see: the fine detail, or only the gist?",
    epilog="Begin with: probekit demo --quick",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def command(group: str, *examples: str, name: str | None = None) -> Callable[[Function], Function]:
    """Adds a function to the application: the group of its help, and examples that can be typed."""
    return app.command(name, cls=Command, rich_help_panel=group, epilog="\n".join(examples))


def of_group(title: str) -> Callable[..., Any]:
    """What `typer.Option` is, for options that stand under a title."""
    return partial(typer.Option, rich_help_panel=title)


output = of_group("Output")


def check_run(name: str | None) -> None:
    """Refuses a run that there is not, before torch is loaded; a ValueError as `open_run`."""
    if name is not None:
        open_run(name, RUNS)


def finite(value: float | None) -> float | None:
    """Refuses NaN and infinity for an option: NaN is neither below nor above any limit, and so within all of them."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, found {value}")
    return value


def runs_like(incomplete: str) -> list[str]:
    """The runs in runs/ whose names begin so, the newest first."""
    return [run.name for run in find_runs(RUNS)[::-1] if run.name.startswith(incomplete)]


def datasets_like(incomplete: str) -> list[str]:
    """The dataset files in data/ whose paths begin so; else the files and folders elsewhere whose paths do."""
    found = [str(path) for path in sorted(DATA.glob("*.h5")) if str(path).startswith(incomplete)]
    return found or [f"{path}/" if Path(path).is_dir() else path for path in sorted(glob(f"{escape(incomplete)}*"))]


def shown_like(incomplete: str) -> list[str]:
    """What `show` takes: runs and dataset files."""
    return runs_like(incomplete) + datasets_like(incomplete)


def certified_like(incomplete: str) -> list[str]:
    """What `certify` takes: generators and dataset files."""
    from generators import GENERATORS

    return [name for name in GENERATORS if name.startswith(incomplete)] + datasets_like(incomplete)


def _of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def like(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return like


methods_like, branches_like = _of(lambda: METHODS), _of(lambda: (*BRANCHES, *VARIANTS))
kinds_like, words_like = _of(lambda: KINDS), _of(lambda: [*pages(), *glossary()])


def recipes_like(incomplete: str) -> list[str]:
    """What `audit` takes: recipes of views, methods, and all of the former."""
    from probekit.views.recipes import RECIPES

    return [name for name in dict.fromkeys((*RECIPES, *METHODS, "all")) if name.startswith(incomplete)]


def sweeps_like(incomplete: str) -> list[str]:
    """The shipped sweeps whose names begin so, and sweep files."""
    from probekit.sweep.definition import shipped

    return [name for name in shipped() if name.startswith(incomplete)] + glob(f"{escape(incomplete)}*.toml")


def _data(default: str) -> Any:
    return typer.Option(
        "--data",
        metavar="DATA",
        help=f"A dataset: a file, a folder of shards or a pattern; {default}.",
        autocompletion=datasets_like,
    )


RunName = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run; default: the newest that has finished.", autocompletion=runs_like),
]
RunNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Runs; default: the newest that has finished.", autocompletion=runs_like),
]
DataFile = Annotated[Path | None, _data("default: the newest in data/")]
RunData = Annotated[Path | None, _data("default: the run's own")]
Pool = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"In place of the encoder's own pooling: {', '.join(POOLS)}.")
]
TrainedPool = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"In place of the encoder's own pooling: {', '.join(POOLS)}; attentive: --attentive shared.",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="N|NAME", help="Read a layer in place of the last: a transformer's block from 1 on, or a layer's name."
    ),
]
LayerOrAll = Annotated[
    str | None,
    typer.Option(
        metavar="N|NAME|all",
        help="Read a layer in place of the last: a transformer's block from 1 on, or a layer's name; "
        "all: every layer, as a curve over depth.",
    ),
]
Set = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="Change one setting; may be repeated.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:i]", help="Where to compute.")]
Checkpoint = Annotated[str, typer.Option(help="last, best_val, best_test, or epoch-NNNN if kept.")]
Preset = Annotated[
    Literal["paper", "quick"] | None,
    typer.Option(help="The settings to begin with; default: paper on a GPU, else quick."),
]
Compression = Annotated[Literal["none", "lzf", "gzip"], output(help="How the file is compressed.")]
CompressionOrDefault = Annotated[
    Literal["none", "lzf", "gzip"] | None,
    output(help="How the file is compressed; default: gzip, pixels of official datasets none."),
]
Engine = Annotated[
    Literal["local", "slurm"], typer.Option(help="Who works: this machine, or a Slurm cluster, as one job array.")
]
Slurm = Annotated[
    list[str],
    typer.Option(
        "--slurm", metavar="KEY=VALUE", help="What each job asks sbatch for, as time=4:00:00; may be repeated."
    ),
]
OneShard = Annotated[
    str | None, output("--shard", metavar="I/N", help="Write one of N shards alone, in the folder --out.")
]
Formats = Annotated[
    str,
    output(
        "--format", metavar="NAME,NAME", help="Also save pictures in these formats: png, svg, pdf.", callback=choose
    ),
]
Overwrite = Annotated[bool, output("--overwrite", help="Replace what exists.")]
Json = Annotated[bool, output("--json", help="Print one JSON object on stdout and nothing else.")]
Quiet = Annotated[bool, output("--quiet", "-q", help="Print errors only.", callback=be_quiet)]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"probekit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What does an image encoder really see: the fine detail, or only the gist?"""
    show_tracebacks(debug)
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)
