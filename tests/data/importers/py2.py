"""Pickles as Python 2 wrote them, protocol 2: text is bytes of its own kind, arrays are NumPy's old names.

As CIFAR's python version is. Python 3 cannot write such files; the opcodes are those of `pickletools`.
"""

import struct
from pickle import (
    APPENDS,
    BINGET,
    BININT,
    BININT1,
    BININT2,
    BINPUT,
    BINSTRING,
    BUILD,
    EMPTY_DICT,
    EMPTY_LIST,
    GLOBAL,
    MARK,
    NEWFALSE,
    NONE,
    PROTO,
    REDUCE,
    SETITEMS,
    SHORT_BINSTRING,
    STOP,
    TUPLE,
    TUPLE1,
    TUPLE2,
    TUPLE3,
)
from typing import Any

import numpy as np


def dumps(content: dict[str, Any]) -> bytes:
    """A dictionary of text, numbers, lists and arrays of bytes."""
    return PROTO + b"\x02" + _of(content) + STOP


def _of(value: Any) -> bytes:
    if isinstance(value, dict):
        pairs = b"".join(_of(key) + _of(held) for key, held in value.items())
        return EMPTY_DICT + BINPUT + b"\x01" + MARK + pairs + SETITEMS
    if isinstance(value, list):
        return EMPTY_LIST + MARK + b"".join(map(_of, value)) + APPENDS
    if isinstance(value, str):
        return _text(value.encode())
    if isinstance(value, int):
        return _number(value)
    assert isinstance(value, np.ndarray)
    return _array(value)


def _text(value: bytes) -> bytes:
    if len(value) < 256:
        return SHORT_BINSTRING + bytes([len(value)]) + value
    return BINSTRING + struct.pack("<i", len(value)) + value


def _number(value: int) -> bytes:
    if 0 <= value < 256:
        return BININT1 + bytes([value])
    return BININT2 + struct.pack("<H", value) if 0 <= value < 65536 else BININT + struct.pack("<i", value)


def _global(module: str, name: str) -> bytes:
    return GLOBAL + f"{module}\n{name}\n".encode()


def _array(value: np.ndarray[Any, Any]) -> bytes:
    empty = _number(0) + TUPLE1 + _text(b"b") + TUPLE3
    made = _global("numpy.core.multiarray", "_reconstruct") + _global("numpy", "ndarray") + empty + REDUCE
    shape = _number(value.shape[0]) + _number(value.shape[1]) + TUPLE2
    kind = _global("numpy", "dtype") + _text(b"u1") + _number(0) + _number(1) + TUPLE3 + REDUCE + BINPUT + b"\x02"
    kind += MARK + _number(3) + _text(b"|") + NONE * 3 + _number(-1) * 2 + _number(0) + TUPLE + BUILD
    state = MARK + _number(1) + shape + kind + NEWFALSE + _text(value.tobytes()) + TUPLE
    return made + BINPUT + b"\x03" + state + BUILD + BINGET + b"\x03" + b"0"  # POP of the second reference
