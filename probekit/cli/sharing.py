"""`export`, `push`, `export-embeddings`: encoders and what they give, for others."""

from pathlib import Path
from typing import Annotated

import typer

from probekit.cli import shared
from probekit.cli.measuring import one_layer
from probekit.output.console import console, errors, print_json
from probekit.registry import EXPORTS

Formats = Annotated[str, typer.Option("--to", metavar="FORMAT,FORMAT", help=f"Formats: {', '.join(EXPORTS)}.")]


@shared.command(
    shared.MEASURING,
    "probekit export RUN --to onnx",
    "probekit export RUN --to safetensors,torchvision --out shared/shapes",
)
def export(
    run: shared.RunName = None,
    to: Formats = "safetensors",
    checkpoint: shared.Checkpoint = "last",
    out: Annotated[
        Path | None, shared.output(file_okay=False, help="The folder; default: runs/RUN/export-CHECKPOINT.")
    ] = None,
    overwrite: shared.Overwrite = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Write the encoder for other tools, with a card that tells what it is."""
    shared.check_run(run)
    from probekit.share.export import run_export_model

    result = run_export_model(
        run,
        formats=_names(to),
        out=out,
        checkpoint=checkpoint,
        runs=shared.RUNS,
        overwrite=overwrite,
        console=errors if as_json else console,
    )
    if as_json:
        print_json(result)


@shared.command(
    shared.MEASURING, "probekit push RUN user/shapes", "probekit push RUN user/shapes --to safetensors,onnx"
)
def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run.", autocompletion=shared.runs_like)],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="A repository of models on the hub.")],
    to: Formats = "safetensors",
    checkpoint: shared.Checkpoint = "last",
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Send an export to a hub, with the token of hf auth login or HF_TOKEN."""
    shared.check_run(run)
    from probekit.share.export import run_push

    result = run_push(
        run,
        repo,
        formats=_names(to),
        checkpoint=checkpoint,
        private=private,
        runs=shared.RUNS,
        console=errors if as_json else console,
    )
    if as_json:
        print_json(result)


def _names(typed: str) -> list[str]:
    """`"a, b" -> ["a", "b"]`."""
    return [name.strip() for name in typed.split(",") if name.strip()]


@shared.command(
    shared.MEASURING,
    "probekit export-embeddings RUN --out embeddings.h5",
    "probekit export-embeddings RUN --pool norm",
    name="export-embeddings",
)
def export_embeddings(
    run: shared.RunName = None,
    data: shared.RunData = None,
    checkpoint: shared.Checkpoint = "last",
    pool: shared.Pool = None,
    layer: shared.Layer = None,
    device: shared.Device = "auto",
    out: Annotated[
        Path | None, shared.output(help="NAME.npz or NAME.h5; default: runs/RUN/embeddings-CHECKPOINT.npz.")
    ] = None,
    overwrite: shared.Overwrite = False,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Write embeddings, labels and factors of every split to one file."""
    shared.check_run(run)
    from probekit.restore.export import run_export

    result = run_export(
        run,
        data=data,
        out=out,
        weights=one_layer(checkpoint, pool, layer),
        device=device,
        runs=shared.RUNS,
        overwrite=overwrite,
        console=errors if as_json else console,
    )
    if as_json:
        print_json(result)
