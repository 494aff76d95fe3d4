"""What a dataset file must look like: everything but its rows is checked before any of them is used."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from generators.certificates import SCHEMA as PROVED
from generators.certificates import Certificate
from probekit.checked import checked
from probekit.h5.checksums import CERTIFICATE, SHARD, Sums, check_seal
from probekit.h5.contents import DIGITS, Contents, arrays_of
from probekit.h5.encoded import FORMAT
from probekit.h5.photographs import FORMAT as PHOTOGRAPHS
from probekit.h5.photographs import CentreCrop
from probekit.h5.schema import (
    CHUNK_BYTES,
    COMPRESSIONS,
    MASK_BITS,
    SCHEMA,
    SPLITS,
    DatasetInfo,
    Shard,
    SplitInfo,
    mask_type,
)

HOW = "type: probekit gen rect-tri, or probekit import SOURCE"
IDS = {h5py.Group: h5py.h5g.GroupID, h5py.Dataset: h5py.h5d.DatasetID}
COLUMN_KINDS = "biufS"  # bool, integers, floats, fixed-length bytes: never objects or references

SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which no file and no picture can show


def check_file(path: Path, file: h5py.File) -> tuple[DatasetInfo, dict[str, Sums]]:
    """Checks attributes, structure and seal, and says what there is, and the checksums of each split.

    A ValueError if anything is not as `probekit.h5` describes it.
    """
    schema = _text(file, "schema")
    if schema != SCHEMA:
        raise ValueError(f"expected schema {SCHEMA!r}, found {schema!r}; {HOW} to write it anew")
    classes, mask_names = _names(file, "classes"), _names(file, "mask_names")
    if len(mask_names) > MASK_BITS:
        raise ValueError(f"expected at most {MASK_BITS} mask names, found {len(mask_names)}")
    factors = _factors(file)
    columns = tuple(factor["name"] for factor in factors)
    splits = {name: _check_split(file, name, classes, mask_names, columns) for name in SPLITS if name in file}
    shard = checked(_json(file, SHARD, dict), Shard, f"attribute {SHARD!r}") if SHARD in file.attrs else None
    if shard is not None and shard.index > shard.count:
        raise ValueError(f"expected a shard of 1 to {shard.count} in attribute {SHARD!r}, found {shard.index}")
    if not splits and shard is None:  # a shard may have been planned for images that are all broken
        raise ValueError(f"expected a split {', '.join(SPLITS)}, found {', '.join(file) or 'none'}")
    shapes = {(split.height, split.width, split.channels) for split in splits.values()}
    if len(shapes) > 1:
        raise ValueError(f"expected images of one shape in all splits, found {sorted(shapes)}")
    if len({split.crop for split in splits.values()}) > 1:
        raise ValueError("expected images kept in one way, or one test crop, in all splits, found several")
    if len({split.multilabel for split in splits.values() if split.labelled}) > 1:
        raise ValueError("expected one label or several for each image in all splits, found both")
    info = DatasetInfo(
        path=path,
        schema=schema,
        generator=_text(file, "generator"),
        parameters=_json(file, "parameters", dict),
        seed=_integer(file, "seed"),
        classes=classes,
        factors=tuple(factors),
        mask_names=mask_names,
        version=_text(file, "version"),
        content_hash=_text(file, "content_hash"),
        splits=splits,
        certificate=_certificate(file),
        shard=shard,
        contents=_contents(file, splits),
        files=(path,),
    )
    return info, check_seal(file)


def _check_split(
    file: h5py.File, name: str, classes: tuple[str, ...], mask_names: tuple[str, ...], factors: tuple[str, ...]
) -> SplitInfo:
    group = _member(file, name, h5py.Group)
    encoded = "encoded" in group
    n, height, width, channels = _encoded_shape(group) if encoded else _image_shape(group)
    crop = _test_crop(group["encoded"], n, height, width) if encoded else None
    labelled, multilabel, masked = "labels" in group, False, "masks" in group
    if labelled:
        multilabel = _member(group, "labels", h5py.Dataset).ndim == 2
        labels = _array(group, "labels", "u", 1) if multilabel else _array(group, "labels", "i", 8)
        _expect_shape(labels, (n, len(classes)) if multilabel else (n,))
        if not classes:
            raise ValueError(f"expected class names for {name}/labels, found none in attribute 'classes'")
    if masked:
        if not mask_names:
            raise ValueError(f"expected mask names for {name}/masks, found none in attribute 'mask_names'")
        _expect_shape(_array(group, "masks", "u", mask_type(len(mask_names)).itemsize), (n, height, width))
    columns = _member(group, "factors", h5py.Group) if "factors" in group else {}
    if sorted(columns) != sorted(factors):
        raise ValueError(f"expected the columns {sorted(factors)} in {name}/factors, found {sorted(columns)}")
    for factor in factors:
        _expect_shape(_array(columns, factor, COLUMN_KINDS, None), (n,))
    held = _objects(group, n, classes) if "objects" in group else None
    return SplitInfo(
        *(name, n, height, width, channels, labelled, masked, factors, multilabel, encoded, crop),
        boxed=held is not None,
        instances=bool(held),
    )


def _image_shape(group: h5py.Group) -> tuple[int, int, int, int]:
    """N, H, W and C of images that are kept as pixels."""
    images = _array(group, "images", "u", 1)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise ValueError(
            f"expected {images.name} of shape [N, H, W] or [N, H, W, 3], none empty, found {list(images.shape)}"
        )
    return (*images.shape[:3], 3 if images.ndim == 4 else 1)


def _encoded_shape(group: h5py.Group) -> tuple[int, int, int, int]:
    """N, H, W and C of images that are kept as files."""
    if "images" in group:
        raise ValueError(f"expected images or encoded in {group.name}, found both")
    encoded, n = _files(group, "encoded")
    if (kind := _text(encoded, "format")) not in (FORMAT, PHOTOGRAPHS):
        raise ValueError(f"expected format {FORMAT!r} or {PHOTOGRAPHS!r} in {encoded.name}, found {kind!r}")
    height, width, channels = (_integer(encoded, name) for name in ("height", "width", "channels"))
    if height < 1 or width < 1 or channels not in (1, 3):
        raise ValueError(
            f"expected pixels, and 1 or 3 channels, in {encoded.name}, found {height} x {width} x {channels}"
        )
    return n, height, width, channels


def _objects(group: h5py.Group, n: int, classes: tuple[str, ...]) -> bool:
    """Whether the objects of the images of a split, which has `n`, have masks."""
    objects, found = _files(group, "objects")
    if found != n:
        raise ValueError(f"expected {n} offsets, and one more, in {objects.name}, found {found}")
    if not classes:
        raise ValueError(f"expected class names for {objects.name}, found none in attribute 'classes'")
    masked = _integer(objects, "masks")
    if masked not in (0, 1):
        raise ValueError(f"expected 0 or 1 in attribute 'masks' of {objects.name}, found {masked}")
    return masked == 1


def _files(group: h5py.Group, name: str) -> tuple[h5py.Group, int]:
    """A group of files of bytes, one an image, and how many there are."""
    held = _member(group, name, h5py.Group)
    data, offsets = _array(held, "bytes", "u", 1), _array(held, "offsets", "i", 8)
    plain = data.chunks is not None and data.id.get_create_plist().get_nfilters() == 0
    if data.ndim != 1 or not plain or group.file.userblock_size:  # images are read without HDF5's help
        raise ValueError(f"expected one row of uncompressed, chunked bytes in {data.name}, found something else")
    if offsets.ndim != 1 or len(offsets) < 2 or offsets.chunks:
        raise ValueError(
            f"expected one row of N + 1 offsets in {offsets.name}, none empty, found shape {list(offsets.shape)}"
        )
    return held, len(offsets) - 1


def _test_crop(encoded: h5py.Group, n: int, height: int, width: int) -> CentreCrop | None:
    """The test transform of photographs; None of images of one size."""
    if _text(encoded, "format") == FORMAT:
        return None
    sizes = _array(encoded, "sizes", "i", 4)
    _expect_shape(sizes, (n, 2))
    if sizes.chunks or (sizes[:] < 1).any():
        raise ValueError(f"expected the height and width of each photograph, in one piece, in {sizes.name}")
    if height != width:
        raise ValueError(f"expected a square in the middle of photographs in {encoded.name}, found {width}x{height}")
    return CentreCrop(_integer(encoded, "resize"), height)


def _member(group: h5py.Group, name: str, kind: type) -> Any:
    """A group or dataset that lies in this very file: no soft or external link."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"expected {group.name.rstrip('/')}/{name} in the file itself, found a link or nothing")
    found = h5py.h5o.open(group.id, name.encode())
    if not isinstance(found, IDS[kind]):
        raise ValueError(
            f"expected a {kind.__name__.lower()} at {group.name.rstrip('/')}/{name}, found another kind of object"
        )
    return kind(found)


def _array(group: h5py.Group, name: str, kinds: str, itemsize: int | None) -> h5py.Dataset:
    """A dataset of plain numbers or bytes, stored completely and in this very file."""
    array = _member(group, name, h5py.Dataset)
    kind, shape, chunk = array.dtype, array.shape, array.chunks  # h5py asks HDF5 each time
    if kind.kind not in kinds or itemsize not in (None, kind.itemsize) or kind.hasobject:
        wanted = np.dtype(f"{kinds}{itemsize}").name if itemsize else "numbers or fixed-length text"
        raise ValueError(f"expected {wanted} in {array.name}, found {kind}")
    if array.is_virtual or array.external:
        raise ValueError(f"expected {array.name} in the file itself, found it spread over other files")
    if shape is None:
        raise ValueError(f"expected values in {array.name}, found none")
    if array.id.get_type() != h5py.h5t.py_create(kind, logical=True):  # bytes in the file are values as they are
        raise ValueError(f"expected {kind} in {array.name} as NumPy has it, found another layout")
    if chunk is None:
        complete = array.id.get_storage_size() >= math.prod(shape) * kind.itemsize
    else:
        complete = array.id.get_num_chunks() == math.prod(-(-n // k) for n, k in zip(shape, chunk, strict=True))
        _check_chunks(array, chunk, math.prod(chunk) * kind.itemsize)
    if not complete:  # also stops a tiny file that claims a huge shape
        raise ValueError(f"expected {shape[0]} complete rows in {array.name}, found some never written")
    return array


def _check_chunks(array: h5py.Dataset, chunk: tuple[int, ...], size: int) -> None:
    """Refuses chunks, of `size` bytes, that nobody writes here, and that HDF5 might read beyond their ends."""
    made = array.id.get_create_plist()
    most = CHUNK_BYTES * array.dtype.itemsize if array.dtype.kind == "u" else CHUNK_BYTES  # masks of many names
    if chunk[0] > 1 and size > most:
        raise ValueError(f"expected chunks of at most {most >> 20} MiB in {array.name}, found {size >> 20} MiB")
    filters = [made.get_filter(k) for k in range(made.get_nfilters())]
    kinds = [number for number, *_ in filters]
    if kinds not in ([], [h5py.h5z.FILTER_DEFLATE], [h5py.h5z.FILTER_LZF]):
        raise ValueError(f"expected {array.name} compressed by one of {', '.join(COMPRESSIONS)}, found other filters")
    if kinds == [h5py.h5z.FILTER_LZF] and filters[0][2][2:] != (size,):
        raise ValueError(f"expected lzf of chunks of {size} bytes in {array.name}, found other settings")


def _expect_shape(array: h5py.Dataset, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"expected shape {list(shape)} of {array.name}, found {list(array.shape)}")


def _text(file: h5py.Group, name: str) -> str:
    value = _attribute(file, name)
    if not isinstance(value, str):
        raise ValueError(f"expected text in attribute {name!r}, found {type(value).__name__}")
    return value


def _integer(file: h5py.Group, name: str) -> int:
    value = _attribute(file, name)
    if not isinstance(value, np.integer):
        raise ValueError(f"expected a whole number in attribute {name!r}, found {type(value).__name__}")
    return int(value)


def _json(file: h5py.File, name: str, kind: type) -> Any:
    try:
        value = json.loads(_text(file, name))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"expected JSON in attribute {name!r}, found something else") from error
    if not isinstance(value, kind):
        raise ValueError(f"expected a JSON {kind.__name__} in attribute {name!r}, found {type(value).__name__}")
    return value


def _names(file: h5py.File, name: str) -> tuple[str, ...]:
    values = _json(file, name, list)
    if not all(isinstance(value, str) for value in values) or len(set(values)) != len(values):
        raise ValueError(f"expected distinct names in attribute {name!r}, found other values")
    if half := next((value for value in values if SURROGATE.search(value)), None):
        raise ValueError(f"expected names of whole characters in attribute {name!r}, found {half!a}")
    return tuple(values)


def _factors(file: h5py.File) -> list[dict[str, Any]]:
    """The factor table: each has a name and a kind, and both ends of a range or neither."""
    factors: list[dict[str, Any]] = _json(file, "factors", list)
    for factor in factors:
        if not isinstance(factor, dict) or not all(isinstance(factor.get(key), str) for key in ("name", "kind")):
            raise ValueError("expected attribute 'factors' to be a list of objects with a name and a kind")
        ends = [factor[end] for end in ("low", "high") if end in factor]
        if len(ends) == 1 or not all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
            raise ValueError(f"expected numbers low and high of factor {factor['name']!r} in attribute 'factors'")
    return factors


def _certificate(file: h5py.File) -> Certificate | None:
    """What is proved of the images, where that is known."""
    if CERTIFICATE not in file.attrs:
        return None
    found: Certificate = checked(_json(file, CERTIFICATE, dict), Certificate, f"attribute {CERTIFICATE!r}")
    generator = file.attrs.get("generator")
    if (found["schema"], found["generator"]) != (PROVED, generator):
        raise ValueError(
            f"expected a certificate {PROVED} of {generator}, found {found['schema']} of {found['generator']}; {HOW}"
        )
    return found


def _contents(file: h5py.File, splits: Mapping[str, SplitInfo]) -> dict[str, Contents]:
    """What the content hash is made of."""
    digests = checked(_json(file, "digests", dict), dict[str, str], "attribute 'digests'")
    if list(digests) != list(splits) or not all(
        re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", each) for each in digests.values()
    ):
        raise ValueError(f"expected {DIGITS} hex digits for each split in attribute 'digests', found {digests}")
    return {name: Contents(split.n, arrays_of(file[name]), digests[name]) for name, split in splits.items()}


def _attribute(file: h5py.Group, name: str) -> Any:
    if name not in file.attrs:
        raise ValueError(f"expected attribute {name!r}, found none; {HOW}")
    return file.attrs[name]
