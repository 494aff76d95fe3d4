"""Oxford-IIIT Pets: images/<name>.jpg, annotations/trainval.txt, test.txt and trimaps/<name>.png.

Parkhi et al., "Cats and dogs", CVPR 2012. A line of a list: name, class from 1 to 37, species (1 cat, 2 dog), breed. A
trimap is 1 in the animal, 2 around it, and 3 at its outline, which is neither.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import Broken, file_stamp, read_bytes
from probekit.data.importers.images import File
from probekit.data.importers.official.base import (
    PHOTOGRAPHS,
    Choices,
    Listing,
    Official,
    find_folder,
    image_file,
    name_classes,
    need,
    number,
    read_pairs,
)

MASKS = ("pet", "border")
UNKNOWN = 255
BITS = np.full(256, UNKNOWN, np.uint8)  # of the mask, for the values of a trimap
BITS[[1, 2, 3]] = 1, 0, 2
SPECIES = ("cat", "dog")
LISTS = {"train": "trainval.txt", "test": "test.txt"}


@dataclass(frozen=True, slots=True)
class Pet(File):
    """A photograph with a trimap; without the file of it the masks are empty."""

    trimap: str = ""

    def stamp(self) -> str:
        """Changes when either file does."""
        found = file_stamp(self.path)
        return found and f"{found} {file_stamp(self.trimap)}"

    def masks(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 `[H, W]`: bit 0 the animal, bit 1 its outline; a `Broken` if it is damaged or of another size."""
        path = Path(self.trimap)
        if not path.exists():
            return np.zeros(shape, np.uint8)
        try:
            found = cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, ValueError, cv2.error) as error:
            raise Broken(f"its trimap cannot be read: {' '.join(str(error).split())}") from error
        if found is None or found.ndim != 2 or found.dtype != np.uint8:
            raise Broken("its trimap is no grey image of 8 bits")
        if found.shape != shape:
            sizes = " and ".join(f"{width}x{height}" for height, width in (found.shape, shape))
            raise Broken(f"its trimap and the image have other sizes, {sizes}")
        masks = np.asarray(cv2.LUT(found, BITS), np.uint8)
        if masks.max() == UNKNOWN:
            raise Broken(f"its trimap is not of 1, 2 and 3, it has {found[masks == UNKNOWN][0]}")
        return masks


def _open(root: Path, choices: Choices) -> Listing:
    """Trainval and test, of breeds or species, with trimaps as masks where they are there."""
    folder = find_folder(root, "annotations/trainval.txt", "oxford-iiit-pet", archive="annotations.tar.gz")
    need(folder / "images", "unpack images.tar.gz there too")
    trimaps = folder / "annotations" / "trimaps"
    masked = trimaps.is_dir()
    named: list[tuple[int, str]] = []
    splits = {}
    for split, file in LISTS.items():
        photos = []
        for name, breed, species in _lines(folder / "annotations" / file):
            label = breed if choices.labels == "breed" else species
            photo = image_file(folder, f"images/{name}.jpg", label)
            photos.append(Pet(photo.key, label, photo.path, trimap=str(trimaps / f"{name}.png")) if masked else photo)
            named.append((breed, name.rpartition("_")[0]))
        splits[split] = photos
    classes = SPECIES if choices.labels == "species" else name_classes(named, N_BREEDS)
    return Listing(classes, splits, mask_names=MASKS if masked else (), notes=_notes(splits, trimaps, masked))


def _lines(path: Path) -> list[tuple[str, int, int]]:
    """Name, breed and species, from 0."""
    lines = []
    for name, rest in read_pairs(path):
        if name.startswith("#"):
            continue
        words = rest.split()
        if len(words) < 2 or not 1 <= number(words[0], path) <= N_BREEDS or number(words[1], path) not in (1, 2):
            raise ValueError(
                f"expected NAME, a class from 1 to {N_BREEDS} and 1 or 2 in {path}, found {rest!r} for {name}"
            )
        lines.append((name, int(words[0]) - 1, int(words[1]) - 1))
    return lines


def _notes(splits: dict[str, list[File]], trimaps: Path, masked: bool) -> list[str]:
    if not masked:
        return [f"no masks: the trimaps are not in {trimaps}"]
    photos = [photo for found in splits.values() for photo in found if isinstance(photo, Pet)]
    missing = sum(not Path(photo.trimap).exists() for photo in photos)
    return [f"{missing:,} of {len(photos):,} images have no trimap: their masks are empty"] if missing else []


N_BREEDS = 37
OXFORD_PETS = Official(
    about="Oxford-IIIT Pets, 37 breeds of cats and dogs, with masks",
    open=_open,
    sizes={"train": 3_680, "test": 3_669},
    classes=N_BREEDS,
    needs="images/, annotations/ with trainval.txt, test.txt and trimaps/",
    takes=frozenset({"labels"}),
    labels={"breed": N_BREEDS, "species": len(SPECIES)},
    store=PHOTOGRAPHS,
)
