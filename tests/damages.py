"""What happens to files: `ANY` to all, `JSON` and `TENSORS` to those of that kind, each by a random generator."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from probekit.models.tensor_files import read_tensors, save_tensors


def flip(path: Path, draw: random.Random) -> None:
    """One bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def cut(path: Path, draw: random.Random) -> None:
    """The end is missing."""
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data) or 1)])


def empty(path: Path, draw: random.Random) -> None:
    """A power cut before the content was on the disk."""
    path.write_bytes(b"")


def zeros(path: Path, draw: random.Random) -> None:
    """A block of zeros."""
    data = bytearray(path.read_bytes())
    start = draw.randrange(len(data) or 1)
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)


def noise(path: Path, draw: random.Random) -> None:
    """Something else."""
    path.write_bytes(draw.randbytes(draw.randrange(1, 5000)))


def longer(path: Path, draw: random.Random) -> None:
    """More behind the end."""
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randrange(1, 100)))


def gone(path: Path, draw: random.Random) -> None:
    """No file."""
    path.unlink()


def folder(path: Path, draw: random.Random) -> None:
    """A folder of that name."""
    path.unlink()
    path.mkdir()


def pipe(path: Path, draw: random.Random) -> None:
    """A named pipe, in which nobody writes: whoever reads it waits for good."""
    path.unlink()
    os.mkfifo(path)


def loop(path: Path, draw: random.Random) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path)


def other(path: Path, draw: random.Random) -> None:
    """Another file of the run."""
    path.write_bytes(draw.choice([p for p in sorted(path.parents[1].rglob("*")) if p.is_file()]).read_bytes())


def deep(path: Path, draw: random.Random) -> None:
    """Nested beyond reason."""
    path.write_text(draw.choice(['{"a":', "["]) * 100_000)


def number(path: Path, draw: random.Random) -> None:
    """A number of more digits than Python reads."""
    path.write_text('{"schema": ' + "9" * 5000 + "}")


def edited(path: Path, draw: random.Random) -> None:
    """A value somewhere is another, or gone."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    contents = [json.loads(line) for line in lines]
    edit(draw.choice(contents), draw)
    path.write_text("\n".join(map(json.dumps, contents)) + "\n")


def edit(content: Any, draw: random.Random) -> None:
    """Any entry is as likely as any other, however deep; of the items of a list, one."""
    place, key = draw.choice(list(entries(content, draw)))
    if draw.random() < 0.3:
        del place[key]
    else:
        place[key] = draw.choice([None, True, -1, 10**30, 1e300, "", "x" * 300, [], {}, [[]], {"a": {}}, float("nan")])


def entries(content: Any, draw: random.Random) -> Iterator[tuple[Any, Any]]:
    """Every place and its key."""
    keys = list(content) if isinstance(content, dict) else [draw.randrange(len(content))] if content else []
    for key in keys:
        yield content, key
        if isinstance(content[key], (dict, list)):
            yield from entries(content[key], draw)


def retensored(path: Path, draw: random.Random) -> None:
    """Other tensors, under a right checksum."""
    if path.suffix == ".pt":
        content = torch.load(path, weights_only=True)
        table = content[draw.choice(["method", "optimizer", "rng", "progress", "encoder_header"])]
        spoil(table, draw)
        torch.save(content, path)
    else:
        header, tensors = read_tensors(path)
        spoil(draw.choice([tensors, header]), draw)
        save_tensors(path, tensors, header)


def spoil(table: dict[Any, Any], draw: random.Random) -> None:
    key = draw.choice(list(table))
    value = table[key]
    if isinstance(value, torch.Tensor):
        table[key] = draw.choice([value.to(torch.complex64), torch.zeros(7, 3), value[..., None], value.long()]).clone()
    elif isinstance(value, dict) and value and draw.random() < 0.7:
        spoil(value, draw)
    elif draw.random() < 0.3:
        del table[key]
    else:
        table[key] = draw.choice([None, True, -1, 10**15, 1e300, "", "x", [], {}, [[]]])


ANY: list[Callable[[Path, random.Random], None]] = [flip, flip, cut, empty, zeros, noise, longer, gone, folder, pipe]
ANY += [loop, other]
JSON = [deep, number, edited, edited, edited, edited, edited, edited, edited, edited]
TENSORS = [retensored] * 6
WEIGHTS = (".pt", ".safetensors")
