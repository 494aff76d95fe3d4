"""Runs the notebooks, all or those named, and keeps what they show: python -m tests.notebooks [NAME ...]."""

import sys
import tempfile
from pathlib import Path

from tests.notebooks.run import NAMES, read, run, write

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            write(name, run(read(name), Path(folder)))
        print(f"wrote docs/notebooks/{name}.ipynb")
