"""The `probekit` command in this process: what it prints and its exit code, without a child that loads torch anew."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from probekit.cli import main
from probekit.output.console import console


def typed(*arguments: str, cwd: Path, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """What `probekit ARGUMENTS` prints and returns when it is typed in `cwd` on a terminal of this encoding."""
    code = 0
    with (
        _streams(encoding) as (out, err),
        contextlib.chdir(cwd),
        patch.object(console, "_width", 100),  # it may have been made under another COLUMNS
        patch.dict(os.environ, COLUMNS="100"),
    ):
        before = signal.getsignal(signal.SIGTERM)
        try:
            with patch.object(sys, "argv", ["probekit", *arguments]):
                main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except Exception:  # as the interpreter does
            traceback.print_exc()
            code = 1
        finally:
            signal.signal(signal.SIGTERM, before)
    return subprocess.CompletedProcess(arguments, code, *(_read(stream) for stream in (out, err)))


@contextlib.contextmanager
def _streams(encoding: str) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def _read(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
