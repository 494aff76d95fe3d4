"""Oxford-IIIT Pets: images/<name>.jpg, annotations/trainval.txt, test.txt and trimaps/<name>.png.

Parkhi et al., "Cats and dogs", CVPR 2012. A line of a list: name, class from 1 to 37, species (1 cat, 2 dog), breed. A
trimap is 1 in the animal, 2 around it, and 3 at its outline, which is neither.
"""

from pathlib import Path

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
from probekit.data.importers.segmented import Segments, notes_on, with_segments

TRIMAP = Segments.of("trimap", ("pet", "border"), "1, 2 and 3", {1: 0, 2: -1, 3: 1})
SPECIES = ("cat", "dog")
LISTS = {"train": "trainval.txt", "test": "test.txt"}


def _open(root: Path, choices: Choices) -> Listing:
    """Trainval and test, of breeds or species, with trimaps as masks where they are there."""
    folder = find_folder(root, "annotations/trainval.txt", "oxford-iiit-pet", archive="annotations.tar.gz")
    need(folder / "images", "unpack images.tar.gz there too")
    trimaps = folder / "annotations" / "trimaps"
    masked = trimaps.is_dir()
    named: list[tuple[int, str]] = []
    splits = {}
    for split, file in LISTS.items():
        photos: list[File] = []
        for name, breed, species in _lines(folder / "annotations" / file):
            label = breed if choices.labels == "breed" else species
            photo = image_file(folder, f"images/{name}.jpg", label)
            photos.append(with_segments(photo, trimaps / f"{name}.png", TRIMAP) if masked else photo)
            named.append((breed, name.rpartition("_")[0]))
        splits[split] = photos
    classes = SPECIES if choices.labels == "species" else name_classes(named, N_BREEDS)
    notes = notes_on(splits, trimaps, TRIMAP)
    return Listing(classes, splits, mask_names=TRIMAP.names if masked else (), notes=notes)


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
