"""Boxes of Pascal VOC: Annotations/<key>.xml, an object each, whose first and last pixels count from 1."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from probekit.data.importers.base import Broken, file_stamp, read_bytes
from probekit.data.importers.images import File
from probekit.h5 import Objects
from probekit.h5.objects import IS_DIFFICULT

ROOT = "annotation"
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Annotated(File):
    """A photograph with a file of its objects; `classes`: their names, in the order of their numbers."""

    annotation: str = ""
    classes: tuple[str, ...] = ()

    def stamp(self) -> str:
        """Changes when either file does."""
        found = file_stamp(self.path)
        return found and f"{found} {file_stamp(self.annotation)}"

    def objects(self, shape: tuple[int, int]) -> Objects:
        """Boxes from the outer edges of their pixels; a `Broken` if the annotation is missing or damaged."""
        try:
            root = ElementTree.fromstring(read_bytes(Path(self.annotation)))
        except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:  # LookupError: of its encoding
            raise Broken(f"its annotation cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if root.tag != ROOT:
            raise Broken(f"its annotation is no <{ROOT}>, but a <{root.tag:.20}>")
        boxes, labels, flags = [], [], []
        for found in root.iterfind("object"):
            name = found.findtext("name", "").strip()
            if name not in self.classes:
                raise Broken(
                    f"its annotation names an object {name!r}, which is none of the {len(self.classes)} classes"
                )
            boxes.append(_box(found, shape))
            labels.append(self.classes.index(name))
            flags.append(IS_DIFFICULT if found.findtext("difficult", "0").strip() == "1" else 0)
        sides = np.array(boxes, np.float32).reshape(-1, 4)
        return Objects(sides, np.array(labels, np.int64), np.array(flags, np.int64))


def _box(found: ElementTree.Element, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    texts = [found.findtext(f"bndbox/{side}", "") for side in SIDES]
    try:
        x0, y0, x1, y1 = map(float, texts)  # some of 2012 are not whole
    except ValueError as error:
        raise Broken(f"its annotation has a box without {', '.join(SIDES)} in numbers") from error
    height, width = shape
    if not (1 <= x0 <= x1 <= width and 1 <= y0 <= y1 <= height):
        raise Broken(f"its annotation has a box {', '.join(texts):.40} that is not within its {width}x{height} pixels")
    return x0 - 1, y0 - 1, x1, y1
