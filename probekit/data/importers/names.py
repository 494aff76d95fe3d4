"""What names of folders mean: splits and their synonyms, masks, wrappers, what systems hide."""

import re
from collections.abc import Iterable

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


def speaks_of(name: str, masks: str) -> bool:
    """Whether a name has the word of a folder of masks inside one of its own: "nomask", "unlabelled"."""
    return any(word.rstrip("s") in "".join(_words(name)) for word in MASKS & set(_words(masks)))


def mentions_masks(name: str) -> bool:
    """Whether a name has the word of a folder of masks, whatever else it says: "masks_binary"."""
    return not MASKS.isdisjoint(_words(name))


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
