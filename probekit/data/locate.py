"""Which file or run a command means when none is named."""

from pathlib import Path
from shlex import quote

from rich.console import Console

from probekit.h5 import is_dataset
from probekit.run import DONE, Run, find_runs, open_run


def newest_dataset(folder: Path) -> Path | None:
    """The dataset in `folder` that was written last, a file or a folder of shards, or None."""
    found = (path for path in folder.glob("[!.]*.h5") if is_dataset(path))
    written = sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
    return written[-1] if written else None


def run_or_newest(named: str | None, folder: Path, console: Console) -> Run:
    """The named run, or the newest that has finished, or else the newest; says which it took and what it passed over.

    A ValueError if there is none, or it cannot be read.
    """
    if named is not None:
        return open_run(named, folder)
    newest_first = find_runs(folder)[::-1]
    states = [_state(run) for run in newest_first]
    place = next((i for i, state in enumerate(states) if state in DONE), 0)
    chosen = newest_first[place] if newest_first else open_run(None, folder)
    passed = "; ".join(f"{run.name}, {state}" for run, state in zip(newest_first[:place], states, strict=False))
    chosen.read()
    console.print(f"run: {chosen.path} (the newest{f' that has finished; passed over: {passed}' if passed else ''})")
    return chosen


def _state(run: Run) -> str:
    try:
        return str(run.read()["state"])
    except ValueError:
        return "unreadable"


def check_h5(out: Path) -> None:
    """Refuses a new dataset file that `newest_dataset` would not find.

    A ValueError if its name does not end with .h5.
    """
    if out.suffix != ".h5" and not out.is_dir():
        raise ValueError(
            f"expected a file name that ends with .h5, found {out}; type --out {quote(str(out.with_suffix('.h5')))}"
        )


def run_named(named: str | Path, folder: Path) -> Run | None:
    """The run that a name in `folder` or a path means, or None where it means a file or nothing."""
    if Path(named).is_file():
        return None
    return next((run for run in map(Run, (folder / named, Path(named))) if run.json.exists()), None)


def guessed(named: Path, folder: Path) -> Path | None:
    """The dataset that was meant by a path to nothing: with its ending, or in `folder`; or None."""
    guesses = (Path(f"{named}.h5"), folder / named.name, folder / f"{named.name}.h5")
    return next((path for path in guesses if is_dataset(path)), None)


def named_dataset(named: Path, folder: Path, runs: Path) -> Path:
    """The named dataset: a file, a folder of shards or a pattern; a ValueError if there is none."""
    if (run := run_named(named, runs)) is not None:
        raise ValueError(
            f"expected a dataset file, found the run {run.path}; type: probekit show {quote(run.argument)}"
        )
    if not named.exists() and not is_dataset(named):
        guess = guessed(named, folder)
        remedy = f"did you mean {guess}?" if guess else "type: probekit gen rect-tri"
        raise ValueError(f"expected a dataset file {named}, found none; {remedy}")
    return named
