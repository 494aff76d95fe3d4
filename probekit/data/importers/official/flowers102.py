"""Oxford Flowers 102: jpg/image_00001.jpg ..., imagelabels.mat (labels from 1), setid.mat (image numbers from 1).

Nilsback and Zisserman, "Automated flower classification over a large number of classes", ICVGIP 2008.
"""

from pathlib import Path

from probekit.data.importers.official.base import (
    Choices,
    Listing,
    Official,
    Photo,
    find_folder,
    read_mat,
    whole_numbers,
)

N_CLASSES = 102
SETS = {"train": "trnid", "val": "valid", "test": "tstid"}


def open_lists(root: Path, choices: Choices) -> Listing:
    """The three official splits; the archive has no class names, so they are the numbers 1 to 102."""
    folder = find_folder(root, "imagelabels.mat", "flowers-102", archive="102flowers.tgz")
    labels = whole_numbers(read_mat(folder / "imagelabels.mat", "labels")["labels"], folder / "imagelabels.mat")
    sets = read_mat(folder / "setid.mat", *SETS.values())

    def photo(number: int) -> Photo:
        if not 1 <= number <= len(labels):
            raise ValueError(f"expected image numbers 1 to {len(labels)} in {folder / 'setid.mat'}, found {number}")
        return Photo(str(folder), f"jpg/image_{number:05}.jpg", labels[number - 1] - 1)

    splits = {
        split: [photo(number) for number in whole_numbers(sets[key], folder / "setid.mat")]
        for split, key in SETS.items()
    }
    return Listing(tuple(str(k + 1) for k in range(N_CLASSES)), splits)


OFFICIAL = Official(
    about="Oxford Flowers 102",
    open=open_lists,
    sizes={"train": 1020, "val": 1020, "test": 6149},
    needs="jpg/, imagelabels.mat, setid.mat",
    takes=frozenset({"train_with_val"}),  # 2040 training images, as in the ConRec paper
)
