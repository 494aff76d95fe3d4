"""`list`, `demo`: where to begin."""

from typing import Annotated

import typer

from probekit.cli.app import DATA, RUNS, Json, Overwrite, app
from probekit.output import console, print_json


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List generators with their dials, methods with their parameter counts, looks, presets, sweeps and datasets."""
    from probekit.commands.catalogue import catalogue, print_catalogue

    if as_json:
        print_json(catalogue())
    else:
        print_catalogue(catalogue(), console)


@app.command()
def demo(
    method: Annotated[str, typer.Argument(help="The method to pretrain.")] = "conrec",
    overwrite: Overwrite = False,
) -> None:
    """Generate, pretrain and probe: the whole path, in minutes on two CPU cores."""
    from probekit.commands.demo import run_demo

    run_demo(method, data=DATA, runs=RUNS, overwrite=overwrite, console=console)
