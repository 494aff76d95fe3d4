"""`probe`, `heatmap`, `compare`, `export-embeddings`, `report`: what encoders have learned."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from probekit.cli.app import (
    DATA,
    MEASURING,
    OUTPUT,
    REPORTS,
    RUNS,
    AllowMissing,
    Device,
    Json,
    Overwrite,
    Quiet,
    RunData,
    RunName,
    Seed,
    Set,
    check_run,
    command,
    finite,
)
from probekit.cli.completion import runs_like
from probekit.output.console import console, errors, print_json
from probekit.registry import POOLS

Pool = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"In place of the encoder's own: {', '.join(POOLS)}."),
]


@command(MEASURING, "probekit probe", "probekit probe RUN --knn --fractions 1,10,100")
def probe(
    run: RunName = None,
    data: RunData = None,
    protocol: Annotated[
        str,
        typer.Option(help="val: standardised, C chosen on validation; paper: C=1; sgd: a head on crops."),
    ] = "val",
    recipe: Annotated[str | None, typer.Option(help="For sgd: conrec (default), xcorr, lcr; voc trains all.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="For sgd; default: the recipe's.")] = None,
    lr: Annotated[
        float | None, typer.Option(callback=finite, help="For sgd: the head's learning rate; default: the recipe's.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="last, best_val, best_test, or epoch-NNNN if kept.")] = "last",
    pool: Pool = None,
    floors: Annotated[bool, typer.Option("--floors/--no-floors", help="Probe the floors too.")] = True,
    fractions: Annotated[
        str | None,
        typer.Option(metavar="%,%", help="Also on these percentages of the training labels: 1,2,5,10,20,50,100."),
    ] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="For --fractions: subsets of each size; default: 5.")] = None,
    knn: Annotated[bool, typer.Option("--knn", help="Also k nearest neighbours.")] = False,
    retrieval: Annotated[
        bool, typer.Option("--retrieval", help="Also retrieval of test images by each other.")
    ] = False,
    cv: Annotated[int | None, typer.Option(metavar="K", help="Also K-fold cross-validation on train.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="For --cv: accuracy (default), or kappa (grades; quadratic-weighted).")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="For --cv: how often all is divided anew; default: 5.")
    ] = None,
    multilabel: Annotated[
        bool, typer.Option("--multilabel", help="Also average precision of each class; unasked with several labels.")
    ] = False,
    every: Annotated[bool, typer.Option("--every", help="Also every kept encoder: along pretraining.")] = False,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="One from elsewhere, in place of a run's: timm:NAME or py:MODULE:FUNCTION."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE[:KEY]", help="For --encoder: a checkpoint of any project; default: random."),
    ] = None,
    allow_missing: AllowMissing = False,
    settings: Set = (),  # type: ignore[assignment]
    normalise: Annotated[
        str, typer.Option(help="For --encoder: imagenet, swav, timm, none, or auto: what weights expect.")
    ] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Report how well a linear probe separates the classes, next to floors that need no learning.

    Options add further protocols to it. Images with several labels have average precision in its place.
    """
    check_run(run if encoder is None else None)
    from probekit.commands.probe import run_probe
    from probekit.commands.probe_options import ProbeOptions, given_with, read_fractions, read_recipe
    from probekit.weights import Weights

    options = ProbeOptions(
        fractions=read_fractions(fractions),
        knn=knn,
        retrieval=retrieval,
        cv=cv,
        multilabel=multilabel,
        every=every,
        recipe=read_recipe(protocol, recipe, epochs=epochs, lr=lr),
        **given_with("--fractions", fractions, draws=draws),
        **given_with("--cv", cv, metric=metric, repeats=repeats),
    )
    measured = Weights.parse(checkpoint, pool)
    out = errors if as_json else console
    if encoder is not None or weights is not None or normalise != "auto" or allow_missing or settings:
        from probekit.commands.adopt import adopt
        from probekit.restore.outside import Outside

        if encoder is None:
            raise ValueError(
                "expected --encoder with --weights, --normalise and --set; type: --encoder timm:resnet50, or py:..."
            )
        asked = Outside(encoder, weights, normalise, seed, allow_missing, settings)
        run, data = (
            adopt(
                asked,
                options,
                run=run,
                data=data,
                measured=measured,
                device=device,
                runs=RUNS,
                data_folder=DATA,
                console=out,
            ),
            None,
        )
    result = run_probe(
        run,
        data=data,
        protocol=protocol,
        weights=measured,
        floors=floors,
        seed=seed,
        device=device,
        runs=RUNS,
        console=out,
        quiet=as_json,
        options=options,
    )
    if as_json:
        print_json(result)


@command(MEASURING, "probekit heatmap", "probekit heatmap RUN --n 100")
def heatmap(
    run: RunName = None,
    data: RunData = None,
    look: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Looks (`probekit list`), or all; default: the cheap ones.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="pair, margin or logit; default: pair where images have counterfactuals.")
    ] = None,
    fill: Annotated[
        str, typer.Option(help="What stands where an image is hidden: black, mean, grey, blur or counterfactual.")
    ] = "black",
    n: Annotated[int, typer.Option(min=1, help="Test images, evenly spaced.")] = 200,
    passes: Annotated[
        int, typer.Option(min=0, help="How many of these for the scores that ask the encoder again; 0: none.")
    ] = 32,
    window: Annotated[int, typer.Option(min=1, help="For occlusion: pixels a side.")] = 16,
    stride: Annotated[int, typer.Option(min=1, help="For occlusion: pixels.")] = 8,
    checkpoint: Annotated[str, typer.Option(help="last, best_val or best_test.")] = "last",
    pool: Pool = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show where the encoder looks, and measure whether that is where the evidence is."""
    check_run(run)
    from probekit.commands.heatmap import HeatmapOptions, run_heatmap
    from probekit.registry import LOOKS
    from probekit.weights import Weights

    looks = None if look is None else tuple(LOOKS) if look == "all" else tuple(name.strip() for name in look.split(","))
    result = run_heatmap(
        run,
        HeatmapOptions(
            looks=looks,
            target=target,
            fill=fill,
            n=n,
            passes=passes,
            window=window,
            stride=stride,
            checkpoint=Weights.parse(checkpoint, pool),
            seed=seed,
            device=device,
        ),
        data=data,
        runs=RUNS,
        console=errors if as_json else console,
        quiet=as_json,
    )
    if as_json:
        print_json(result)


@command(MEASURING, "probekit compare conrec-rect-tri simclr-rect-tri", "probekit compare A B@branch")
def compare(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...", help="Runs, or RUN@POOL for one under a pooling.", autocompletion=runs_like
        ),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Only results on this dataset file.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help='Only results of one protocol: val, paper, knn, "retrieval, rank-1", ...')
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Only results of one checkpoint.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test which encoders differ: paired by test image, and by seed where methods have several."""
    from probekit.report.side_by_side import run_compare

    say = errors if as_json else console
    result = run_compare(
        run, data=data, protocol=protocol, checkpoint=checkpoint, runs=RUNS, console=say, quiet=as_json
    )
    if as_json:
        print_json(result)


@command(
    MEASURING,
    "probekit export-embeddings RUN --out embeddings.h5",
    "probekit export-embeddings RUN --pool norm",
    name="export-embeddings",
)
def export_embeddings(
    run: RunName = None,
    data: RunData = None,
    checkpoint: Annotated[str, typer.Option(help="last, best_val, best_test, or epoch-NNNN if kept.")] = "last",
    pool: Pool = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="NAME.npz or NAME.h5; default: runs/RUN/embeddings-CHECKPOINT.npz.", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write embeddings, labels and factors of every split to one file."""
    check_run(run)
    from probekit.restore.export import run_export
    from probekit.weights import Weights

    result = run_export(
        run,
        data=data,
        out=out,
        weights=Weights.parse(checkpoint, pool),
        device=device,
        runs=RUNS,
        overwrite=overwrite,
        console=errors if as_json else console,
    )
    if as_json:
        print_json(result)


@command(MEASURING, "probekit report", "probekit report RUN RUN --out page.html", "probekit report RUN --format md")
def report(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Runs; default: the newest that has finished.", autocompletion=runs_like
        ),
    ] = None,
    form: Annotated[Literal["html", "md", "json"], typer.Option("--format", help="The language of the page.")] = "html",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; default: runs/RUN/report.html, or reports/RUN+RUN.html; of md and json stdout.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write one page of all that runs hold: config, tables, curves, pictures, and how several differ."""
    from probekit.report.write import run_report

    to_stdout = out is None and form != "html"
    say = errors if to_stdout else console
    text = run_report(run or [], out=out, form=form, runs=RUNS, reports=REPORTS, console=say)
    if text is not None:
        print(text, end="")
