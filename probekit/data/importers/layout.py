"""Which folders of a tree are splits, and which are classes; what is not clear is asked about."""

from collections.abc import Iterable
from pathlib import Path

from probekit.data.importers.base import Skipped, readable
from probekit.data.importers.tree import TABLES, Folder, is_neutral, splits_among
from probekit.h5 import SPLITS

Found = list[tuple[str | bytes | None, str, Path]]  # class, or a byte for each of several, or None; key, file
SHOWN = 5  # names in a line


def find_splits(top: Folder, depth: int | None, ignored: list[Skipped], notes: list[str]) -> dict[str, Folder]:
    """The folder of each split, inside the folders that wrap all of it; without split folders all is train.

    A ValueError if there are splits but no train, or it may also be a class. `top`: the tree, without masks and folders
    without images. `depth`: as typed; with it, a folder of images that is called train, beside others, is a class.
    `ignored`: what lies beside the splits is added to it. `notes`: what was entered is added to it.
    """
    while True:
        found = splits_among(top.folders)
        beside = [folder for name, folder in top.folders.items() if name not in found]
        if found and not (beside and _may_be_classes(top, found, depth)):
            break
        inner = _wrapped(top)
        if inner is None:
            return {"train": top}
        top = _entered(top, inner, ignored, notes)
    by_split = {split: top.folders[name] for name, split in found.items()}
    if "train" not in by_split:
        raise ValueError(f"expected a folder train beside {_shown(found)} in {top.path}, found none")
    roots = {split: by_split[split] for split in SPLITS if split in by_split}
    ignored += _rest(top, roots.values())
    return {split: _enter(root, ignored, notes) for split, root in roots.items()}


def _may_be_classes(top: Folder, found: dict[str, str], depth: int | None) -> bool:
    """Whether folders called like splits stand among classes of that name, as --depth says; refuses if neither says."""
    trains = [top.folders[name] for name, split in found.items() if split == "train"]
    if trains and not trains[0].images:
        return False
    if depth is None:
        beside = [name for name in top.folders if name not in found]
        raise ValueError(
            f"expected splits or classes in {top.path}, found {_shown(found)} beside {_shown(beside)}; "
            "type --depth 1 if all are classes, or move some away"
        )
    return True


def _enter(folder: Folder, ignored: list[Skipped], notes: list[str]) -> Folder:
    """The innermost folder that holds more than one folder."""
    while (inner := _wrapped(folder)) is not None:
        folder = _entered(folder, inner, ignored, notes)
    return folder


def _entered(folder: Folder, inner: Folder, ignored: list[Skipped], notes: list[str]) -> Folder:
    ignored += _rest(folder, [inner])
    notes.append(f"entered {inner.key}, the only folder with images in it")
    return inner


def _wrapped(folder: Folder) -> Folder | None:
    """The only folder with images in one that has none itself, unless it is a class: it has images, and a name."""
    inside = [inner for inner in folder.folders.values() if inner.n]
    if folder.images or len(inside) != 1:
        return None
    return inside[0] if not inside[0].images or is_neutral(inside[0].path.name) else None


def _rest(folder: Folder, kept: Iterable[Folder]) -> list[Skipped]:
    """What lies beside the folders that are taken."""
    kept = list(kept)
    names = " and ".join(readable(inner.path.name) for inner in kept)
    files = [
        Skipped(folder.below(name), f"beside {names}")
        for name in [*folder.images, *folder.others]
        if not name.lower().endswith(TABLES)  # a line says how to read it
    ]
    folders = [
        Skipped(inner.key, f"{inner.n:,} images beside {names}")
        for inner in folder.folders.values()
        if inner not in kept
    ]
    return files + folders


def find_classes(roots: dict[str, Folder], depth: int | None, notes: list[str]) -> dict[str, Found]:
    """All images of each split with their classes, sorted by class and name.

    `depth`: how many levels down the class folders are, if that was typed; `notes`: what was joined is added to it. A
    ValueError if images lie beside class folders, or the class folders hold folders and there is no depth.
    """
    deepest = min(map(_deepest, roots.values()))
    return {split: _by_class(_class_folders(root, depth, deepest), root, notes) for split, root in roots.items()}


def _class_folders(root: Folder, depth: int | None, deepest: int) -> list[Folder]:
    folders = [folder for folder in root.folders.values() if folder.n]
    if root.images and folders:
        raise ValueError(
            f"expected images in class folders everywhere or nowhere, found both in {root.path}: "
            f"{readable(root.images[0])!r} beside {_shown(folder.path.name for folder in folders)}; move them"
        )
    if not folders:
        return []
    if depth is None:
        _check_levels(root, folders, deepest)
    for _ in range(1, depth or 1):
        for folder in folders:
            if folder.images:
                raise ValueError(
                    f"expected class folders {depth} levels below {root.path}, found the image "
                    f"{folder.below(folder.images[0])!r} above; type --depth {max(1, deepest)}"
                )
        folders = [inner for folder in folders for inner in folder.folders.values() if inner.n]
    return folders


def _by_class(folders: list[Folder], root: Folder, notes: list[str]) -> Found:
    """The images of class folders; those of the same name, under several folders, are one class."""
    if not folders:
        return [(None, root.below(name), root.path / name) for name in root.images]
    classes: dict[str, list[Folder]] = {}
    for folder in folders:
        classes.setdefault(folder.path.name, []).append(folder)
    if len(classes) > 1 and len(splits_among(classes)) == len(classes):
        raise ValueError(
            f"expected classes, found splits below them: {_shown(folder.key for folder in folders)}; "
            "sort them as train/CLASS and test/CLASS"
        )
    found: Found = []
    for name in sorted(classes):
        if len(classes[name]) > 1:
            notes.append(f"one class of folders of one name: {_shown(folder.key for folder in classes[name])}")
        inside = [inner for folder in classes[name] for inner in folder.all()]
        files = [(name, inner.below(file), inner.path / file) for inner in inside for file in inner.images]
        found += sorted(files, key=lambda file: file[1])
    return found


def _check_levels(root: Folder, folders: list[Folder], deepest: int) -> None:
    """Folders in class folders are asked about where they may be the classes themselves, or splits, or copies."""
    inner = {folder.path.name: {name for name, below in folder.folders.items() if below.n} for folder in folders}
    hollow = [folder.path.name for folder in folders if not folder.images]
    names = next(iter(inner.values()))
    same = len(folders) > 1 and bool(names) and all(other == names for other in inner.values())
    if not same and not hollow:
        return
    splits = bool(splits_among(names)) if same else False
    below = dict.fromkeys(name for found in inner.values() for name in sorted(found))
    deeper = deepest > 1 and len(below) > 1 and not splits
    hint = f"type --depth 1 to take {_shown(inner)} as the classes"
    hint += f", or --depth 2 to take {_shown(below)}" if deeper else ""
    what = (
        f"the same folders, {_shown(sorted(names))}, in each of {_shown(inner)}"
        if same
        else f"only folders in {_shown(hollow)}"
    )
    advice = f"sort them as {sorted(names)[0]}/{folders[0].path.name}, or " if splits else ""
    raise ValueError(f"expected images in the class folders of {root.path}, found {what}; {advice}{hint}")


def _deepest(root: Folder) -> int:
    """The most levels down that class folders can be: no image lies higher."""
    levels, folders = 0, [root]
    while not any(folder.images for folder in folders):
        levels, folders = levels + 1, [inner for folder in folders for inner in folder.folders.values() if inner.n]
    return levels


def _shown(names: Iterable[str]) -> str:
    """Some names, quoted, the first few of many."""
    quoted = [repr(readable(name)) for name in names]
    return ", ".join(quoted[:SHOWN]) + (f" and {len(quoted) - SHOWN:,} more" if len(quoted) > SHOWN else "")
