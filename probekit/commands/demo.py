"""`probekit demo`: the whole path, once, on a laptop."""

import time
from pathlib import Path

from rich.console import Console

from probekit.commands.gen import gen_default
from probekit.commands.pretrain import run_pretrain
from probekit.commands.probe import run_probe
from probekit.run import open_run


def run_demo(method: str, *, data: Path, runs: Path, overwrite: bool, console: Console) -> None:
    """Generates rect-tri, pretrains with preset `quick`, probes, and says what to try next.

    A demo that stands already is not trained again; `overwrite` does.
    """
    started = time.monotonic()
    console.rule("1 of 3: images whose every factor is known")
    file = gen_default("rect-tri", data, console)
    console.rule(f"2 of 3: pretraining {method}, without labels")
    name = f"demo-{method}"
    if overwrite or not _finished(runs, name):
        run_pretrain(
            method,
            data=file,
            runs=runs,
            name=name,
            preset="quick",
            seed=0,
            config_file=None,
            overrides=(),
            options={},
            device="auto",
            overwrite=True,
            data_folder=data,
            console=console,
        )
    else:
        console.print(f"run: {runs / name} (as it is; --overwrite trains it again)")
    console.rule("3 of 3: what a linear probe reads from it")
    run_probe(
        name,
        data=None,
        protocol="val",
        checkpoint="last",
        floors=True,
        seed=0,
        device="auto",
        runs=runs,
        console=console,
        quiet=False,
    )
    console.print(f"\ndone in {time.monotonic() - started:.0f} s. Try next:")
    console.print("  probekit show --views conrec               what the method is given")
    console.print(f"  probekit show --views conrec --run {name}   and what it makes of it")
    console.print("  probekit gen rect-tri --set corner_radius=8 --out data/hard.h5 --preview")
    console.print("  probekit pretrain simclr --data data/rect-tri.h5")
    console.print("  probekit list                               all methods, generators and their dials")


def _finished(runs: Path, name: str) -> bool:
    try:
        return bool(open_run(name, runs).read()["state"] == "finished")
    except ValueError:
        return False
