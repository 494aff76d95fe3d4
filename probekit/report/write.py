"""From runs to a report's file: written whole or not at all, and never over what probekit did not report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from probekit.data.locate import run_or_newest
from probekit.files import write_text
from probekit.output.document import command
from probekit.registry import nearest
from probekit.report import SCHEMA, html, markdown
from probekit.report.build import build
from probekit.report.collect import collect
from probekit.run import Run, to_json

HEAD = 4096  # bytes of a file in which `SCHEMA` stands, in every format
WRITERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "html": lambda content: html.render(build(content)),
    "md": lambda content: markdown.render(build(content)),
    "json": lambda content: to_json(content) + "\n",
}
MOST_NAMES = 80  # characters of a default name


def run_report(
    names: Sequence[str], *, out: Path | None, form: str, runs: Path, reports: Path, console: Console
) -> str | None:
    """Reads runs and writes what they hold.

    Args:
        names: Runs, by name or path; none: the newest.
        out: The file, or None: html goes to `runs`/NAME/report.html, or to `reports`/NAMES.html for several runs, and
            md and json are returned.
        form: A key of `WRITERS`.
        reports: The folder of reports on several runs.

    Returns:
        The text, if there is no file to write it to.

    Raises:
        ValueError: If there is no such run or format, a run is named twice, or `out` is no report of probekit's.
    """
    if form not in WRITERS:
        raise ValueError(nearest("format", form, WRITERS))
    found = [run_or_newest(name, runs, console) for name in names or (None,)]
    check_once(found)
    if out is None and form == "html":
        out = found[0].path / "report.html" if len(found) == 1 else reports / f"{_name(found)}.html"
    if out is not None:
        check_report(out)
    content = collect(found)
    text = WRITERS[form](content)
    if out is None:
        return text
    write_report(out, text)
    console.print(f"report {out} ({len(text.encode('utf-8', 'backslashreplace')) / 1e6:.1f} MB)")
    for run in content["runs"]:
        for line in run["left_out"]:
            console.print(f"note: {line}")
    unprobed = next((run["argument"] for run in content["runs"] if not any(run["results"].values())), None)
    console.print(f"next: {command('probekit', 'probe', *unprobed) if unprobed else 'open it in a browser'}")
    return None


def check_once(runs: Sequence[Run]) -> None:
    """Refuses a run that is named twice, by name and by path perhaps."""
    seen: set[Path] = set()
    for run in runs:
        if run.path.resolve() in seen:
            raise ValueError(f"expected each run once, found {run.name} twice; leave one out")
        seen.add(run.path.resolve())


def _name(runs: Sequence[Run]) -> str:
    joined = "+".join(run.name for run in runs)
    return joined if len(joined) <= MOST_NAMES else f"{runs[0].name[:MOST_NAMES]}+{len(runs) - 1}-more"


def check_report(out: Path) -> None:
    """Refuses a file that is there and is no report.

    Raises:
        ValueError: If `out` is a folder or a file that probekit did not report.
    """
    if out.is_dir():
        raise ValueError(
            f"expected a file for the report, found the folder {out}; type --out {quote(str(out / 'report.html'))}"
        )
    if out.exists() and not _reported(out):
        raise ValueError(f"{out} exists and is no report of probekit's; move it away or choose another --out")


def _reported(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return SCHEMA.encode() in file.read(HEAD)


def write_report(out: Path, text: str) -> None:
    """Writes a report; its folder is made, and an older report is replaced.

    Raises:
        ValueError: As `check_report`.
        OSError: If it cannot be written.
    """
    check_report(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
