"""Files of tensors with checksums that are looked at: a flipped bit is refused, never read as another weight."""

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from probekit.files import host_memory, parse_json, replaced_file, size_of
from probekit.visible import first_line

# In our header, a text in that of the file: CRC-32 of the whole file, computed with zeros in this place.
CHECKSUM = re.compile(rb'\\"crc32\\": \\"([0-9a-f]{8})\\"')
ZEROS = rb"\"crc32\": \"00000000\""
HEADER = 8  # bytes that a .safetensors file begins with: the length of its JSON header


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors as safetensors, whole or not at all, with a JSON header and a checksum of all of it."""
    # Not its save_file, whose files only their owner can read.
    # One entry: its own writer puts several in any order, and equal runs have equal files.
    text = json.dumps({**header, "crc32": "0" * 8}, sort_keys=True)
    data = save(dict(tensors), metadata={"probekit": text})
    assert data.count(ZEROS) == 1
    with replaced_file(path) as file:
        file.write(data.replace(ZEROS, ZEROS.replace(b"0" * 8, b"%08x" % zlib.crc32(data)), 1))


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `save_tensors` wrote: header and tensors, on the CPU.

    A ValueError if it is no such file, or not as it was written.
    """
    size = _fitting(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER), "little")
        file.seek(0)
        data = file.read(min(HEADER + length, size))
        found = CHECKSUM.search(data, HEADER)
        data += file.read() if found else b""  # of something else, which may be vast, its beginning is enough
    if found is None:
        raise ValueError(f"expected an encoder file with its checksum in {path}, found another kind of file, or damage")
    checksum = zlib.crc32(data[found.end() :], zlib.crc32(ZEROS, zlib.crc32(data[: found.start()])))
    if int(found[1], 16) != checksum:
        raise ValueError(f"expected {path} as it was written, found other bytes: it is damaged")
    try:
        about = json.loads(data[HEADER : HEADER + length])["__metadata__"]
        header = parse_json(about["probekit"], str(path))
        header.pop("crc32")
        return header, load(data)
    except Exception as error:  # whatever a file with a right checksum of somebody else's holds
        raise ValueError(f"expected an encoder file in {path}, found: {first_line(error)}") from error


def read_torch(path: Path, device: str | torch.device) -> dict[str, Any]:
    """The dictionary in a file that `torch.save` wrote, plain tensors and numbers alone.

    A zip file: each record has a CRC-32, at which torch itself does not look. A ValueError if it is no such file, or
    not as it was written.
    """
    size = _fitting(path)
    try:
        with zipfile.ZipFile(path) as records:
            unpacked = sum(record.file_size for record in records.infolist())
            if unpacked > size:  # torch packs nothing; a bomb of a few bytes would be unpacked for hours
                raise ValueError(f"{unpacked} bytes packed into {size}")
            damaged = records.testzip()
        if damaged is None:
            content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # zipfile, zlib and torch have many words for damage
        raise ValueError(f"expected a checkpoint in {path}, found: {first_line(error)}") from error
    if damaged is not None:
        raise ValueError(f"expected {path} as it was written, found other bytes in {damaged}: it is damaged")
    if not isinstance(content, dict):
        raise ValueError(f"expected a dictionary in {path}, found {type(content).__name__}")
    return content


def _fitting(path: Path) -> int:
    """Bytes of a regular file that fits into memory: a vast one may be all holes."""
    size, memory = size_of(path), host_memory()
    if size > memory:
        raise ValueError(
            f"expected at most the {memory >> 30} GiB of this machine's memory in {path}, found {size >> 30}"
        )
    return size
