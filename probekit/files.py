"""Files that a kill, a power cut or a full disk never leaves half written; files of others, read with care.

The standard library alone.
"""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

MOST_TEXT = 2**28  # bytes of a JSON or TOML file; ours hold a prediction an image at most
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; what is written there takes its place, safe on the disk, if the block ends well.

    Where several processes write it at once each has a name of its own, and the last one's file stays. An OSError if it
    cannot be written; where the disk is full it says so. The old file stands then.
    """
    temporary = unfinished(path, "tmp")
    try:
        with told_if_full(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unfinished(path: Path, suffix: str) -> Path:
    """A name beside `path` for this process alone; what others of that kind left there is removed, if they are gone.

    A kill leaves them no time to do that. Processes of other machines may write to the same disk, and are left alone.
    """
    ours = f".{path.name[:200]}.{platform.node()[:20]}-"
    kind = re.compile(re.escape(ours) + r"(\d{1,9})\." + suffix)
    with suppress(OSError):
        for found in filter(None, map(kind.fullmatch, os.listdir(path.parent))):
            if not _lives(int(found[1])):
                left = path.with_name(found[0])
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
    return path.with_name(f"{ours}{os.getpid()}.{suffix}")


def _lives(process: int) -> bool:
    """Whether another process has this number."""
    if process == os.getpid():  # it was another's, as this one only begins to write
        return False
    if os.name != "posix":  # there the question would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


@contextmanager
def replaced_file(path: Path) -> Iterator[IO[bytes]]:
    """As `replaced`, opened for writing."""
    with replaced(path) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def told_if_full(path: Path) -> Iterator[None]:
    """Names the file that is being written, and the remedy, where a full disk ends the block."""
    try:
        yield
    except Exception as error:
        if _is_full(error):
            raise OSError(f"{path} cannot be written: the disk is full, or a limit reached; free some space") from error
        raise


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: torch says something else of it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def sync_folder(path: Path) -> None:
    """Puts the names in a folder on the disk; a system that cannot open folders does without."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; half a character becomes an escape."""
    with replaced_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def refuse_links_out(folder: Path) -> None:
    """Refuses a folder out of which a link leads: in a stranger's it would have other files read, or written to.

    The folder itself may be a link; links from one place in it to another are none of these.
    """
    root = os.path.realpath(folder)
    for parent, folders, files in os.walk(root):  # which enters no link
        for path in (Path(parent, name) for name in sorted((*folders, *files))):
            if path.is_symlink() and not Path(target := os.path.realpath(path)).is_relative_to(root):
                raise ValueError(
                    f"expected all of {folder} in it, found that {path.relative_to(root)} is a link to {target}; "
                    "put that itself in the link's place, or remove the link"
                )


def size_of(path: Path) -> int:
    """Bytes of a regular file; a pipe, say, would be waited for, were it opened.

    A FileNotFoundError if there is nothing; a ValueError if it is something else than a file.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"expected a file at {path}, found something else")
    return about.st_size


def name_of(path: Path) -> str:
    """What a dataset is called: its file, folder or pattern without its ending, or what that stands in."""
    return re.sub(r"[*?\[\]]+", "", path.stem).strip("-_.") or path.absolute().parent.stem


def host_memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def read_text(path: Path) -> str:
    """The text of a regular file of sane size.

    A FileNotFoundError if there is none; a ValueError if it is something else than a file, larger than any of ours, or
    no UTF-8.
    """
    size = size_of(path)
    if size > MOST_TEXT:
        raise ValueError(f"expected at most {MOST_TEXT >> 20} MiB in {path}, found {size >> 20}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected text in {path}, found bytes that are no UTF-8") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    A FileNotFoundError if there is none; a ValueError as `read_text`, and if it is no JSON object, holds NaN or
    infinity, or is nested beyond reason.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> dict[str, Any]:
    """The JSON object in a text; `where` is named in the errors, which are those of `read_json`."""
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError(f"expected JSON in {where}, found it nested beyond reason") from None
    except ValueError as error:
        raise ValueError(f"expected JSON in {where}, found: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object in {where}, found {type(content).__name__}")
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    A FileNotFoundError if there is none; a ValueError as `read_text`, and if it is no TOML, or is nested beyond reason.
    """
    return parse_toml(read_text(path), str(path))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text; `where` is named in the errors, which are those of `read_toml`."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"expected TOML in {where}, found it nested beyond reason") from None
    except ValueError as error:
        raise ValueError(f"expected TOML in {where}, found: {error}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant}, which is no JSON")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hex: which weights a result belongs to."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
