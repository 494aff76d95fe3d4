"""`probekit heatmap`: where an encoder looks."""

from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from probekit.cli.app import MEASURING, RUNS, Device, Json, Pool, Quiet, RunData, RunName, Seed, check_run, command
from probekit.cli.measured import with_measurements
from probekit.cli.probe import show_result
from probekit.output.console import console, errors, print_json
from probekit.weights import Weights

if TYPE_CHECKING:
    from probekit.heatmaps.measurement import Heatmap


@command(MEASURING, "probekit heatmap", "probekit heatmap RUN --n 100")
@with_measurements("heatmap")
def heatmap(
    run: RunName = None,
    data: RunData = None,
    checkpoint: Annotated[str, typer.Option(help="last, best_val or best_test.")] = "last",
    pool: Pool = None,
    *,
    asked: "list[Heatmap]",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show where the encoder looks, and measure whether that is where the evidence is."""
    check_run(run)
    from probekit.data.locate import run_or_newest
    from probekit.device import choose_device
    from probekit.heatmaps.run import heatmap_run
    from probekit.restore.opened import open_encoder

    out = errors if as_json else console
    found = run_or_newest(run, RUNS, out)
    opened = open_encoder(found, Weights.parse(checkpoint, pool), choose_device(device))
    result = heatmap_run(opened, asked[0], data=data, seed=seed, console=out)
    if as_json:
        print_json(result)
        return
    show_result(result)
    console.print(f"next: probekit report {quote(found.argument)}   (what the scores mean: docs/heatmaps.md)")
