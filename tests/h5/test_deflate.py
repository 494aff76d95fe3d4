"""zlib's format where zlib-ng is not installed; that both write the same bytes is held in test_h5.py."""

import importlib
import sys
import zlib

import pytest
import zlib_ng.zlib_ng

from probekit.h5 import checksums


def test_without_zlib_ng_it_is_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checksums.zlib is zlib_ng.zlib_ng
    monkeypatch.setitem(sys.modules, "zlib_ng", None)
    assert importlib.reload(checksums).zlib is zlib
    monkeypatch.undo()
    importlib.reload(checksums)
