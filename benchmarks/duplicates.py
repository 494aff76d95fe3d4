"""Near-duplicates among made-up images: signs, search, and what comparing all with all by one matrix product takes.

    python -m benchmarks.duplicates [--n 100000] [--rounds 3] [--out FILE]

Images of 64 px are smooth random colours; a fifth are test images, and one in ten of these is a JPEG file of an image
of train. CPU seconds of one core.

- signs: `signs_of` all images, in blocks of 64 as an import makes them.
- search: `search` the test images among those of train.
- all: the floor of comparing all with all: correlations of the same grey means, by products of matrices.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import RESULTS, interleaved, spread, write
from probekit.data.duplicates import SIDE, Signs, search, signs_of

PIXELS, BLOCK = 64, 64


def drawn(n: int) -> tuple[Signs, Signs, float]:
    """Signs of train and test images, and the CPU seconds that all of them took."""
    rng = np.random.default_rng(0)
    parts, seconds = [], 0.0
    kept: list[NDArray[np.uint8]] = []
    n_test = n // 5
    for begin in range(0, n, BLOCK):
        coarse = rng.integers(0, 256, (min(BLOCK, n - begin), 8, 8, 3), dtype=np.uint8)
        images = [np.asarray(cv2.resize(c, (PIXELS, PIXELS), interpolation=cv2.INTER_CUBIC), np.uint8) for c in coarse]
        if begin < n_test // 10:
            kept += images
        for place in range(len(images)):
            if begin + place >= n - n_test // 10:
                data = cv2.imencode(".jpg", kept[begin + place - (n - n_test // 10)], (cv2.IMWRITE_JPEG_QUALITY, 75))[1]
                images[place] = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        start = time.process_time()
        parts.append(signs_of(images))
        seconds += time.process_time() - start
    signs = np.concatenate(parts)
    return signs[: n - n_test], signs[n - n_test :], seconds


def all_with_all(asked: Signs, known: Signs) -> NDArray[np.int64]:
    """The row of the most alike of all."""
    x, y = (part[:, : SIDE * SIDE].astype(np.float32) for part in (asked, known))
    x, y = (part - part.mean(axis=1, keepdims=True) for part in (x, y))
    x, y = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (x, y))
    return np.concatenate([(x[k : k + 256] @ y.T).argmax(axis=1) for k in range(0, len(x), 256)])


def measure(n: int, rounds: int) -> dict[str, Any]:
    """Seconds of each, and the share of the copies that are found."""
    known, asked, seconds = drawn(n)
    found = search(asked, known)
    copies = np.arange(n // 5 // 10)
    share = float((found[len(asked) - len(copies) :] == copies).mean())
    jobs = {"search": lambda: search(asked, known), "all": lambda: all_with_all(asked, known)}
    taken = interleaved(jobs, rounds=rounds, clock=time.process_time)
    wrong = float((found[: len(asked) - len(copies)] >= 0).mean())
    return {
        "n": n,
        "signs_s": seconds,
        "found": share,
        "found_by_mistake": wrong,
        **{name: spread(values) for name, values in taken.items()},
    }


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "duplicates-cpu.json")
    arguments = parser.parse_args()
    write(arguments.out, measure(arguments.n, arguments.rounds))


if __name__ == "__main__":
    main()
