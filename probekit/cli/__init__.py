"""The command line: parse, call one plain function, print. Heavy imports stand inside the commands."""

# ruff: noqa: F401, I001  each import adds its commands, in the order that --help lists them
import os
import sys
from functools import partial

from probekit.installed import warning

# Before torch comes: threads that wait for each other spin, and beside other work one of them waits for a core. Asleep
# they take 8 % longer on an idle machine, and half the time on a busy one (docs/log.md, 2026-11-29).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Before what may be another project's is imported.
if line := warning():
    print(line, file=sys.stderr)

from probekit.cli import images
from probekit.cli import importing
from probekit.cli import split
from probekit.cli import reshard
from probekit.cli import shown
from probekit.cli import training
from probekit.cli import exam
from probekit.cli import detect
from probekit.cli import measuring
from probekit.cli import sharing
from probekit.cli import draw
from probekit.cli import audit
from probekit.cli import overview
from probekit.cli.shared import app
from probekit.output.console import run_app

__all__ = ["app", "main"]


def main() -> None:
    """The `probekit` command."""
    run_app(partial(app, prog_name="probekit", standalone_mode=False))
