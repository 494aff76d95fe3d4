"""`runs`, `list`, `help`, `demo`: what there is, and where to begin."""

from typing import Annotated

import typer

from probekit.cli.app import DATA, OVERVIEW, RUNS, Json, Overwrite, Quiet, command
from probekit.cli.catalogue import KINDS, catalogue, print_catalogue
from probekit.cli.completion import kinds_like, methods_like, words_like
from probekit.output.console import console, print_json
from probekit.registry import nearest

Names = Annotated[bool, typer.Option("--quiet", "-q", help="Print names only, one a line.")]


@command(OVERVIEW, "probekit runs", "probekit runs --json")
def runs(as_json: Json = False, names_only: Names = False) -> None:
    """List the runs in runs/, the newest first: method, data, epoch, state, accuracy and age."""
    from probekit.cli.runs import print_runs, runs_in

    found = runs_in(RUNS)
    if as_json:
        print_json({"runs": found})
    elif names_only:
        print(*(entry["name"] for entry in found if "problem" not in entry), sep="\n")
    else:
        print_runs(found, RUNS, console)


@command(OVERVIEW, "probekit list methods", "probekit list generators", name="list")
def list_(
    what: Annotated[
        str | None,
        typer.Argument(help=f"One of {', '.join(KINDS)}; default: all.", autocompletion=kinds_like),
    ] = None,
    as_json: Json = False,
    names_only: Names = False,
) -> None:
    """List what there is to choose from: methods with their sizes, generators with their parameters, and more."""
    if what is not None and what not in KINDS:
        raise ValueError(nearest("kind", what, KINDS))
    content = catalogue(tuple(KINDS) if what is None else (what,))
    if as_json:
        print_json(content)
    elif names_only:
        print(*(entry["name"] for entries in content.values() for entry in entries), sep="\n")
    else:
        print_catalogue(content, console)


@command(OVERVIEW, "probekit help evidence", "probekit help probe", name="help")
def help_(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORD|COMMAND]", help="Default: all words.", autocompletion=words_like),
    ] = None,
) -> None:
    """Say what a word means that probekit prints, or print the help of a command."""
    from probekit.cli.catalogue import glossary, meant

    assert context.parent is not None
    commands, entries = context.parent.command.commands, glossary()  # type: ignore[attr-defined]
    word = " ".join(words or ())
    if word in commands:
        context.parent.command.main([word, "--help"], prog_name="probekit", standalone_mode=False)
        return
    found = meant(word)
    if word and found is None:
        raise ValueError(nearest("word or command", word, [*entries, *commands]))
    for name in entries if found is None else [found]:
        console.print(f"{name}: {entries[name]}")


@command(OVERVIEW, "probekit demo", "probekit demo simclr", "probekit demo --real")
def demo(
    method: Annotated[
        str | None,
        typer.Argument(
            help="The method to pretrain; default: conrec, with --real simclr-attention.", autocompletion=methods_like
        ),
    ] = None,
    real: Annotated[bool, typer.Option("--real", help="Use real images that need no download: digits.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Generate, pretrain, probe, draw maps and report: the whole path, in minutes on two CPU cores."""
    from probekit.cli.demo import run_demo, run_demo_real

    run, usual = (run_demo_real, "simclr-attention") if real else (run_demo, "conrec")
    run(method or usual, data=DATA, runs=RUNS, overwrite=overwrite, console=console)
