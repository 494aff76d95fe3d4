"""Speed of the generators on one core, next to a plain Pillow renderer in the same run.

    python -m benchmarks.generators [--out FILE] [--rounds 7] [NAME ...] [--command [NAME ...]]

Ours: factors, labels and images, in calls of 1536 samples, alone as `gen --no-masks` makes them, and with object and
evidence masks. Pillow: one image after the other as one writes it without arrays, drawn and, where its scene is level,
rotated as the authors do; on a grey canvas and on an RGB one as theirs, which is slower; with masks it also draws each
object and each counterfactual. Two ratios, images alone:

- whole to whole: factors and pixels, ours beside Pillow's picture and the same law in plain Python
  (`benchmarks/laws.py`), tries until one fits included: nobody has factors for nothing. This is the headline.
- drawing to drawing: pixels of given factors, on both sides.

"Whole to drawing" holds our whole against Pillow's drawing of given factors. Ours and theirs take turns; printed are
medians and min to max of the rounds, in processor time of the one core. --command also times the whole `probekit gen`
to a gzip file on all cores, with and without masks, the best of three. The authors' recipes have no law here: of them
only drawings are compared.

Overlap is that of the two images' ink (intersection over union, the mean over 256 images). It is 1 for the published
recipes, whose pixels are Pillow's. For the others Pillow rounds every shape to whole pixels.

The scenes are in `benchmarks/scenes.py`; another generator is a line in its `SCENES` and one in `LAWS`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from threadpoolctl import threadpool_limits

from benchmarks import laws
from benchmarks.laws import LAWS
from benchmarks.report import RESULTS, interleaved, spread, write
from benchmarks.scenes import SCENES, Row, Scene
from generators import GENERATORS, Generator
from generators.base import BASE_SIZE

OURS_N, OURS_CALL, PEER_N = 4608, 1536, 256
COMMAND_N = 200_000


def peer_image(scene: Scene, row: Row, *, mode: str = "L") -> NDArray[np.uint8]:
    """Draw, rotate, and take the pixels: one image."""
    image = Image.new(mode, (BASE_SIZE, BASE_SIZE))
    pen = ImageDraw.Draw(image)
    for draw, ink in scene.objects:
        level = 255 if ink else 0
        draw(pen, row, (level,) * 3 if mode == "RGB" else level)
    pixels = np.asarray(image.rotate(row["angle"]) if scene.turned else image)
    return pixels[:, :, 0] if mode == "RGB" else pixels


def peer_with_masks(generator: Generator, scene: Scene, row: Row) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image and its masks: each object, and what differs from each counterfactual."""
    image = peer_image(scene, row)
    masks = np.zeros((BASE_SIZE, BASE_SIZE), np.uint8)
    for bit, (draw, ink) in enumerate(scene.objects):
        shape = peer_image(scene._replace(objects=((draw, True),)), row) > 0
        if not ink:
            shape &= masks > 0  # a hole is where there was ink
        masks |= shape.astype(np.uint8) << bit
    for bit, factor in enumerate(generator.class_factors, start=len(scene.objects)):
        other = peer_image(scene, row | {factor: row[factor] ^ 1})
        masks |= (image != other).astype(np.uint8) << bit
    return image, masks


def rows_of(factors: NDArray[np.void]) -> list[dict[str, Any]]:
    """Rows as plain dicts of numbers, so that the peer does not pay for NumPy scalars."""
    names = factors.dtype.names or ()
    return [dict(zip(names, row.tolist(), strict=True)) for row in factors]


def overlap(generator: Generator, scene: Scene, factors: NDArray[np.void]) -> float:
    """Intersection over union of our ink and the peer's, the mean over the images."""
    ours = generator.render(factors).images > 0
    theirs = np.stack([peer_image(scene, row) for row in rows_of(factors)]) > 0
    shares = (ours & theirs).sum(axis=(1, 2)) / (ours | theirs).sum(axis=(1, 2))
    return float(shares.mean())


def each(function: Callable[[Any], object], items: Iterable[Any]) -> None:
    """Calls it for every item, and lets go of the result, as whoever writes a file does."""
    for item in items:
        function(item)


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Microseconds an image for ours and the peers, by turns."""
    generator, scene = GENERATORS[name](), SCENES[name]
    starts = [np.arange(k, k + OURS_CALL) for k in range(0, OURS_N, OURS_CALL)]
    factors = [generator.sample(0, "train", index) for index in starts]
    rows = rows_of(factors[0][:PEER_N])
    law: dict[str, tuple[int, Callable[[], object]]] = {}
    if name in LAWS:
        law["pil factors"] = (PEER_N, lambda: each(lambda row: row, laws.rows(name, PEER_N)))
    jobs: dict[str, tuple[int, Callable[[], object]]] = {
        "sample": (OURS_N, lambda: each(partial(generator.sample, 0, "train"), starts)),
        "labels": (OURS_N, lambda: each(generator.labels, factors)),
        "images": (OURS_N, lambda: each(generator.render_images, factors)),
        "images + masks": (OURS_N, lambda: each(generator.render, factors)),
        "pil image, RGB": (PEER_N, lambda: each(partial(peer_image, scene, mode="RGB"), rows)),
        "pil image, grey": (PEER_N, lambda: each(partial(peer_image, scene), rows)),
        "pil image + masks": (PEER_N, lambda: each(partial(peer_with_masks, generator, scene), rows)),
        **law,
    }
    # Processor time: other load on the machine counts less than in wall time.
    seconds = interleaved({key: job for key, (_, job) in jobs.items()}, rounds=rounds, clock=time.process_time)
    times = {key: [1e6 * t / jobs[key][0] for t in values] for key, values in seconds.items()}
    ours = {
        drawn: [sum(parts) for parts in zip(times["sample"], times["labels"], times[drawn], strict=True)]
        for drawn in ("images", "images + masks")
    }
    factors_too = np.array(times.get("pil factors", [np.nan] * rounds))
    drawings = {mode: np.array(times[f"pil image, {mode}"]) for mode in ("grey", "RGB")}
    ratios = {
        "whole to whole": (factors_too + drawings["grey"]) / ours["images"],
        "in RGB": (factors_too + drawings["RGB"]) / ours["images"],
        "with masks": (factors_too + times["pil image + masks"]) / ours["images + masks"],
        "drawing to drawing": drawings["grey"] / times["images"],
        "whole to drawing": drawings["grey"] / ours["images"],
    }
    if name not in LAWS:
        ratios = {key: ratio for key, ratio in ratios.items() if key.endswith("to drawing")}
    return {
        "overlap": overlap(generator, scene, factors[0][:PEER_N]),
        "us an image": {key: spread(values) for key, values in times.items()},
        "ours, images/s": {drawn: round(1e6 / spread(values)["median"]) for drawn, values in ours.items()},
        "ratio": {key: spread(ratio.tolist()) for key, ratio in ratios.items()},
    }


def time_command(name: str, *more: str) -> dict[str, Any]:
    """The whole command with start-up, all workers, gzip, three times: wall time, load before, processor time."""
    times, loads, before = [], [], os.times()
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "probekit", "gen", name, "--n", str(COMMAND_N), *more]
            command += ["--compression", "gzip", "--out", str(Path(folder) / "set.h5")]
            loads.append(round(os.getloadavg()[0], 2))
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            times.append(round(time.perf_counter() - begin, 2))
    after, images = os.times(), COMMAND_N + GENERATORS[name].default_n_test
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    rates = {"images/s": round(images / min(times)), "processor us an image": round(1e6 * processor / 3 / images, 1)}
    return {"images": images, "s": times, "load": loads, **rates}


def main() -> None:
    """Measures, prints a line a case, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="generators; all that have a scene if none is named")
    parser.add_argument("--out", type=Path, default=RESULTS / "generators.json")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--command", nargs="*", metavar="NAME", help="also time `probekit gen` of these; of all if none is named"
    )
    options = parser.parse_args()
    names = options.names or [*SCENES]
    report: dict[str, Any] = {"pillow": PIL.__version__}
    if options.command is not None:  # before this process is bound to one core
        report["probekit gen, gzip"] = {
            name: {"with masks": time_command(name), "--no-masks": time_command(name, "--no-masks")}
            for name in options.command or names
        }
        print(report["probekit gen, gzip"])
    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")  # as `gen` has it
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for name in names:
        case = report[name] = compare(name, options.rounds)
        ratios = [
            f"{key} {ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
            for key, ratio in case["ratio"].items()
        ]
        alone, masked = case["ours, images/s"].values()
        print(f"{name}: {alone:,} images/s, {masked:,} with masks, overlap {case['overlap']:.4f}; ratio to")
        print("  " + "; ".join(ratios))
    write(options.out, report)


if __name__ == "__main__":
    main()
