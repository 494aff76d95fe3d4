"""A folder and all below it, read once: images, other files, tables. Nothing in it is passed over without a word.

What names of folders mean: splits and their synonyms, masks, wrappers, what systems hide.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from probekit.data.importers.base import Skipped, readable
from probekit.data.importers.images import SUFFIXES

SYNONYMS = {
    "train": "train training trn",
    "val": "val valid validate validation validating dev",
    "test": "test tests testing tst eval evaluation holdout",
}
SPLIT_WORDS = {word: split for split, words in SYNONYMS.items() for word in words.split(" ")}
_NEUTRAL = (
    "set sets data dataset datasets split splits folder folders file files image images img imgs photo photos picture "
    "pictures pic pics jpg jpgs jpeg jpegs png pngs tif tiff bmp raw rgb original originals all"
)
_MASKS = (
    "mask masks annotation annotations annot annots anno annos label labels trimap trimaps segmentation segmentations "
    "groundtruth gt bbox bboxes"
)
NEUTRAL, MASKS = frozenset(_NEUTRAL.split(" ")), frozenset(_MASKS.split(" "))
SYSTEM = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
GLUED = re.compile(f"({'|'.join(SPLIT_WORDS)})(set|sets|data|images?|imgs?)")  # trainset, testdata
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # train_2017, TrainImages, IMG-train

MAX_LEVELS = 100  # own choice: deeper is a mistake, and neither Python's stack nor paths go on for ever
TABLES = (".csv", ".tsv")


def is_hidden(name: str) -> bool:
    """Whether a system or a program put it there: copies, thumbnails, caches."""
    return name.startswith(".") or name in SYSTEM


def is_neutral(name: str) -> bool:
    """Whether a name says no more than that there are images."""
    words = _words(name)
    return bool(words) and NEUTRAL.issuperset(words)


def is_split(name: str) -> bool:
    """Whether a name says which split a folder is, and nothing else."""
    found = _split_and_rest(name)
    return found is not None and not found[1]


def splits_among(names: Iterable[str]) -> dict[str, str]:
    """Which of some folders side by side are splits, and which.

    train, Training, test_images and val2017 are. seg_train is one beside seg_test, as all but the split is the same;
    "train station" alone is not. A ValueError if two folders are the same split.
    """
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for name in names:
        found = _split_and_rest(name)
        if found is not None:
            groups.setdefault(found[1], []).append((found[0], name))
    group = groups.get((), [])
    if not group:
        full = [pairs for pairs in groups.values() if {"train"} < {split for split, _ in pairs}]
        group = full[0] if len(full) == 1 else []
    result: dict[str, str] = {}
    for split, name in group:
        if split in result.values():
            other = next(known for known, of in result.items() if of == split)
            raise ValueError(f"expected one folder for {split}, found {other!r} and {name!r}; move one away")
        result[name] = split
    return result


def masks_among(names: Iterable[str]) -> set[str]:
    """Which of some folders side by side hold masks, annotations or label images: "masks", "train_masks", "GT".

    Beside another folder that speaks of the same, it is a class: "mask" beside "no mask".
    """
    words = {name: _words(name) for name in names}
    known = MASKS | NEUTRAL | SPLIT_WORDS.keys()
    masks = {name for name, found in words.items() if MASKS & set(found) and known.issuperset(found)}
    spoken = {word.rstrip("s") for name in words.keys() - masks for word in words[name]}
    return {name for name in masks if not spoken & {word.rstrip("s") for word in MASKS & set(words[name])}}


def _speaks_of(name: str, masks: str) -> bool:
    """Whether a name has the word of a folder of masks inside one of its own: "nomask", "unlabelled"."""
    return any(word.rstrip("s") in "".join(_words(name)) for word in MASKS & set(_words(masks)))


def _words(name: str) -> tuple[str, ...]:
    """The words of a name; "ground truth" is one, and so is what ends in "class" or "object" (VOC)."""
    found = [word.lower() for word in WORD.findall(name)]
    joined = " ".join(found).replace("ground truth", "groundtruth")
    return tuple(re.sub(r"\bsegmentation (class|object)\b", "segmentation", joined).split())


def _split_and_rest(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that a name has in it, and its other words but for the neutral ones."""
    words = [glued.group(1) if (glued := GLUED.fullmatch(word)) else word for word in _words(name)]
    splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    if len(splits) != 1 or MASKS & set(words):
        return None
    return splits[0], tuple(word for word in words if word not in SPLIT_WORDS and word not in NEUTRAL)


@dataclass
class Folder:
    """What a folder holds, at any depth.

    `key`: its path within the source, as text; "" for the source itself. `folders`: the folders in it that are not
    hidden. `images`: names of the files that are images by their names.
    """

    path: Path
    key: str
    folders: dict[str, "Folder"] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Images in it, at any depth."""
        return len(self.images) + sum(folder.n for folder in self.folders.values())

    def below(self, name: str) -> str:
        """The key of something in it."""
        return f"{self.key}/{readable(name)}" if self.key else readable(name)

    def all(self) -> Iterator["Folder"]:
        """It and every folder in it."""
        yield self
        for folder in self.folders.values():
            yield from folder.all()


def read_tree(
    path: Path, ignored: list[Skipped], key: str = "", met: dict[tuple[int, int], str] | None = None, level: int = 0
) -> Folder:
    """A folder with all below it, sorted by name; links to folders are followed.

    `ignored`: what is hidden is added to it. A ValueError if a folder cannot be read, or a link leads nowhere, to a
    folder above, or to one met before.
    """
    met = {} if met is None else met
    folder = Folder(path, key)
    if level > MAX_LEVELS:
        raise ValueError(f"expected at most {MAX_LEVELS} folders in one another, found more in {key!r}")
    try:
        found = os.stat(path)
        before = met.setdefault((found.st_dev, found.st_ino), key or ".")
        if before != (key or "."):
            raise ValueError(f"expected every folder once, found {before!r} again as {key!r}; remove the link")
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"cannot read the folder {path}: {error.strerror}; make it readable or move it away"
        ) from error
    for entry in entries:
        is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
        is_folder = _is_folder(entry, folder)
        if is_hidden(entry.name):
            if is_folder or is_image:
                ignored.append(Skipped(folder.below(entry.name), "hidden"))
        elif is_folder:
            folder.folders[entry.name] = read_tree(path / entry.name, ignored, folder.below(entry.name), met, level + 1)
        else:
            (folder.images if is_image else folder.others).append(entry.name)
    return folder


def _is_folder(entry: os.DirEntry[str], folder: Folder) -> bool:
    """Whether an entry is a folder, or a link to one; a link to nothing may have been one."""
    if not entry.is_symlink():
        return entry.is_dir()
    path = Path(entry.path)
    if not os.path.exists(path) and not is_hidden(entry.name) and path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"expected links to files and folders, found {folder.below(entry.name)!r}, which leads nowhere"
        )
    return os.path.isdir(path)


def prune(folder: Folder, ignored: list[Skipped], depth: int | None, *, classes: bool = True) -> None:
    """Takes out the folders of masks, and those without images; each is added to `ignored`.

    A ValueError if there is no depth, and a folder may be masks or a class. `depth`: as typed; with it, what may be
    masks or a class is a class; `classes`: whether the folders in it may be the classes.
    """
    masks = masks_among(folder.folders)
    inside = {name: inner for name, inner in folder.folders.items() if inner.n and name not in masks}
    if classes and (unclear := _unclear(folder, masks, inside)):
        if depth is None:
            beside = [name for name in inside if name not in unclear]
            raise ValueError(
                f"expected classes, or images and their masks, in {folder.path}, found {_quoted(unclear)} beside "
                f"{_quoted(beside)}; type --depth 1 if all are classes, or move the masks away"
            )
        masks -= set(unclear)
    around = splits_among(inside) if classes else {}  # folders that are no classes themselves
    for name, inner in list(folder.folders.items()):
        if name in masks and inner.n:
            reason = f"{inner.n:,} images of masks or annotations, by its name; rename it if they are not"
        elif not inner.n and not is_split(name):  # an empty split is refused, later
            reason = "no images in it"
        else:
            prune(inner, ignored, depth, classes=classes and (name in around or list(inside) == [name]))
            continue
        ignored.append(Skipped(inner.key, reason))
        del folder.folders[name]


def _unclear(folder: Folder, masks: set[str], inside: dict[str, Folder]) -> list[str]:
    """Folders of masks by their names that may be classes: without them one class is left, or another has the word.

    So may all whose names have such a word, beside a folder whose name only says that there are images.
    """
    named = [name for name, inner in inside.items() if inner.images and not is_neutral(name) and not is_split(name)]
    alone = named == list(inside) and len(named) == 1 and not folder.images
    plain = any(map(is_neutral, inside))
    return [
        name
        for name, inner in folder.folders.items()
        if (name in masks and inner.n and (alone or any(_speaks_of(other, name) for other in inside)))
        or (name in inside and plain and not MASKS.isdisjoint(_words(name)))
    ]


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(readable(name)) for name in names)
