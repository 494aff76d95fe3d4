"""Speed of the generators on one core, next to a plain Pillow renderer in the same run.

    python -m benchmarks.generators [--out FILE] [--repeats 7] [--command]

Ours: factors, images, object and evidence masks, in calls of 1024 samples. Pillow: the image of
given factors (its sampling is not counted), drawn and rotated one by one as the authors do; on
an RGB canvas as theirs and on a grey one, which is faster; with masks it also draws each object
and each minimal pair. Ours and theirs take turns; printed are medians and min..max of the
repeats, in processor time of the one core. --command also times the whole `probekit gen` to a gzip file on all cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from generators import GENERATORS, Generator

OURS_N, OURS_CALL, PEER_N = 4096, 1024, 256
COMMAND_N = 200_000
RESULTS = Path(__file__).parent / "results" / "generators.json"
SIZE = 128
Row = Any  # one row of factors
Scene = Callable[[Any, Row, Any], None]  # draws a row on a pen with an ink


def draw_rectangle(pen: Any, row: Row, ink: Any) -> None:
    """The rectangle at whole pixels, with quarter discs if it is round."""
    x0, y0 = round(row["x"] - row["width"] / 2), round(row["y"] - row["height"] / 2)
    x1, y1 = x0 + round(row["width"]) - 1, y0 + round(row["height"]) - 1
    if row["corner"]:
        pen.rectangle([x0, y0, x1, y1], fill=ink)
        return
    pen.rectangle([x0, y0 + 20, x1, y1 - 20], fill=ink)
    pen.rectangle([x0 + 20, y0, x1 - 20, y1], fill=ink)
    for x, y, start in (
        (x0, y0, 180),
        (x1 - 40, y0, 270),
        (x1 - 40, y1 - 40, 0),
        (x0, y1 - 40, 90),
    ):
        pen.pieslice([x, y, x + 40, y + 40], start, start + 90, fill=ink)


def draw_triangle(pen: Any, row: Row, ink: Any) -> None:
    """The triangle as a polygon, turned about its centroid."""
    if row["triangle"]:
        corners = [(0.0, 0.0), (row["leg_x"], 0.0), (0.0, row["leg_y"])]
    else:
        side = row["triangle_side"]
        corners = [(0.0, 0.0), (side, 0.0), (side / 2, side * math.sqrt(0.75))]
    mean_x, mean_y = (sum(p[k] for p in corners) / 3 for k in (0, 1))
    cos, sin = (f(math.radians(row["triangle_angle"])) for f in (math.cos, math.sin))
    points = []
    for x, y in corners:
        dx, dy = x - mean_x, y - mean_y
        points.append((row["triangle_x"] + cos * dx + sin * dy,
                       row["triangle_y"] - sin * dx + cos * dy))  # fmt: skip
    pen.polygon(points, fill=ink)


def draw_object(number: int) -> Scene:
    """Object `number` of circ-sq."""

    def scene(pen: Any, row: Row, ink: Any) -> None:
        x, y, half = row[f"x_{number}"], row[f"y_{number}"], row[f"size_{number}"] / 2
        shape = pen.rectangle if row[f"shape_{number}"] else pen.ellipse
        shape((x - half, y - half, x + half, y + half), fill=ink)

    return scene


# Object name -> how it is drawn, and whether as ink or as a hole.
SCENES: dict[str, list[tuple[Scene, bool]]] = {
    "rect-tri": [(draw_rectangle, True), (draw_triangle, False)],
    "circ-sq": [(draw_object(1), True), (draw_object(2), True)],
}


def peer_image(scenes: list[tuple[Scene, bool]], row: Row, *, mode: str = "L") -> NDArray[np.uint8]:
    """Draw, rotate, and take the pixels: one image."""
    image = Image.new(mode, (SIZE, SIZE))
    pen = ImageDraw.Draw(image)
    for scene, ink in scenes:
        level = 255 if ink else 0
        scene(pen, row, (level,) * 3 if mode == "RGB" else level)
    pixels = np.asarray(image.rotate(row["angle"]))
    return pixels[:, :, 0] if mode == "RGB" else pixels


def peer_with_masks(
    generator: Generator, scenes: list[tuple[Scene, bool]], row: Row
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image and its masks: each object, and what differs from each minimal pair."""
    image = peer_image(scenes, row)
    masks = np.zeros((SIZE, SIZE), np.uint8)
    for bit, (scene, _) in enumerate(scenes):
        masks |= (peer_image([(scene, True)], row) > 0).astype(np.uint8) << bit
    for bit, factor in enumerate(generator.class_factors, start=len(scenes)):
        sibling = peer_image(scenes, row | {factor: 1 - row[factor]})
        masks |= (image != sibling).astype(np.uint8) << bit
    return image, masks


def cpu_seconds(action: Callable[[], object]) -> float:
    """Processor time of one call: other load on the machine counts less than in wall time."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


def rows_of(factors: NDArray[np.void]) -> list[dict[str, Any]]:
    """Rows as plain dicts of numbers, so that the peer does not pay for NumPy scalars."""
    names = factors.dtype.names or ()
    return [dict(zip(names, row.tolist(), strict=True)) for row in factors]


def compare(name: str, style: str, repeats: int) -> dict[str, Any]:
    """Microseconds an image for ours and the peers, by turns."""
    generator = GENERATORS[name](style=style)
    starts = [np.arange(k, k + OURS_CALL) for k in range(0, OURS_N, OURS_CALL)]
    factors = [generator.sample(0, "train", index) for index in starts]
    rows, scenes = rows_of(factors[0][:PEER_N]), SCENES[name]
    actions: dict[str, tuple[int, Callable[[], object]]] = {
        "sample": (OURS_N, lambda: [generator.sample(0, "train", i) for i in starts]),
        "render": (OURS_N, lambda: [generator.render(f) for f in factors]),
        "labels": (OURS_N, lambda: [generator.labels(f) for f in factors]),
        "pil image, RGB": (PEER_N, lambda: [peer_image(scenes, r, mode="RGB") for r in rows]),
        "pil image, grey": (PEER_N, lambda: [peer_image(scenes, r) for r in rows]),
        "pil image + masks": (PEER_N, lambda: [peer_with_masks(generator, scenes, r) for r in rows]),
    }
    for _, action in actions.values():
        action()  # warm-up: tables and caches
    times: dict[str, list[float]] = {key: [] for key in actions}
    for _ in range(repeats):
        for key, (n, action) in actions.items():
            times[key].append(cpu_seconds(action) / n * 1e6)
    ours = np.add(np.add(times["sample"], times["render"]), times["labels"])
    result: dict[str, Any] = {"us an image": {key: spread(t) for key, t in times.items()}}
    result["ours, images/s"] = round(1e6 / float(np.median(ours)))
    result["ratio"] = {key: spread(np.divide(times[key], ours)) for key in times if key.startswith("pil")}
    return result


def spread(values: Any) -> dict[str, float]:
    """Median, least and largest."""
    return {
        "median": round(float(np.median(values)), 2),
        "min": round(float(np.min(values)), 2),
        "max": round(float(np.max(values)), 2),
    }


def time_command(name: str) -> dict[str, Any]:
    """Wall time of the whole command with start-up, all workers, gzip."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "probekit", "gen", name, "--n", str(COMMAND_N)]
        command += ["--compression", "gzip", "--out", str(Path(folder) / "set.h5")]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        elapsed = time.perf_counter() - begin
    images = COMMAND_N + GENERATORS[name].default_n_test
    return {"images": images, "s": round(elapsed, 2), "images/s": round(images / elapsed)}


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
    }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--command", action="store_true", help="also time `probekit gen`")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine()}
    if options.command:  # before this process is bound to one core
        report["probekit gen, gzip"] = {name: time_command(name) for name in GENERATORS}
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for name in GENERATORS:
        for style in ("clean", "paper"):
            report[f"{name}, {style}"] = compare(name, style, options.repeats)
    text = json.dumps(report, indent=1)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
