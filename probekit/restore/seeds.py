"""One seed of a run, many independent streams."""

import hashlib


def stream_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream that `names` name, unrelated to that of any other name or seed.

    Torch's streams of one seed are the same numbers, so initialisation, dropout and views must not share theirs.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
