"""zlib's format: by zlib-ng or, where it is not installed, by zlib, which writes the same bytes more slowly."""

try:
    from zlib_ng import zlib_ng as zlib
except ImportError:
    import zlib  # type: ignore[no-redef]

__all__ = ["zlib"]
