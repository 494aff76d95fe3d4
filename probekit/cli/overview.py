"""`list`, `demo`: where to begin."""

from typing import Annotated

import typer

from probekit.cli.app import DATA, RUNS, Json, Overwrite, app
from probekit.output.console import console, print_json


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List generators with their parameters, methods with their sizes, looks, presets, sweeps and datasets."""
    from probekit.cli.catalogue import catalogue, print_catalogue

    if as_json:
        print_json(catalogue())
    else:
        print_catalogue(catalogue(), console)


@app.command()
def demo(
    method: Annotated[
        str | None, typer.Argument(help="The method to pretrain; default: conrec, with --real simclr-attention.")
    ] = None,
    real: Annotated[bool, typer.Option("--real", help="On real images that need no download: digits.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate, pretrain, probe, look and report: the whole path, in minutes on two CPU cores."""
    from probekit.cli.demo import run_demo, run_demo_real

    run, usual = (run_demo_real, "simclr-attention") if real else (run_demo, "conrec")
    run(method or usual, data=DATA, runs=RUNS, overwrite=overwrite, console=console)
