"""Files of a stranger's folder, read only if they are regular and of sane size."""

import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 30  # own choice: more than any image or list of these sets, and less than fills a computer's memory


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no regular file, or larger than 1 GiB, be it of holes.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("expected a regular file, found something else")
    if found.st_size > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES >> 30} GiB, found {found.st_size / (1 << 30):,.1f}")
    return path.read_bytes()


def read_list(path: Path) -> bytes:
    """All of a file that the images depend on, and not one of them.

    Raises:
        ValueError: If it is missing, or no regular file of sane size.
    """
    try:
        return read_bytes(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def read_text(path: Path) -> str:
    """All of a text file in UTF-8; a ValueError if it is missing, or no such file."""
    try:
        return read_list(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected text in UTF-8 in {path}, found something else") from error
