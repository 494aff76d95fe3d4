"""A report's file: written whole or not at all, and never over what probekit did not report."""

from pathlib import Path
from shlex import quote

from probekit.files import write_text
from probekit.report import SCHEMA

HEAD = 4096  # bytes of a file in which `SCHEMA` stands, in every format


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
