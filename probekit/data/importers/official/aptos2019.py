"""APTOS 2019 blindness detection: train.csv (id_code,diagnosis) and train_images/*.png; the test labels are hidden.

Asia Pacific Tele-Ophthalmology Society, kaggle.com/c/aptos2019-blindness-detection, 2019.
"""

import csv
from pathlib import Path

from probekit.data.importers.official.base import Choices, Listing, Official, Photo, find_folder, number, read_lines

GRADES = ("0 no retinopathy", "1 mild", "2 moderate", "3 severe", "4 proliferative")  # ordinal, in this order


def open_lists(root: Path, choices: Choices) -> Listing:
    """All labelled images as train."""
    folder = find_folder(root, "train.csv", "aptos2019-blindness-detection", archive="the competition's zip file")
    path = folder / "train.csv"
    rows = list(csv.DictReader(read_lines(path)))
    if not rows or any(row.get("id_code") is None or row.get("diagnosis") is None for row in rows):
        found = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise ValueError(f"expected the columns id_code and diagnosis in {path}, found {found}")
    photos = [Photo(str(folder), f"train_images/{row['id_code']}.png", number(row["diagnosis"], path)) for row in rows]
    return Listing(GRADES, {"train": photos}, parameters={"ordinal": True})


OFFICIAL = Official(
    about="APTOS 2019, grades of diabetic retinopathy",
    open=open_lists,
    sizes={"train": 3662},
    needs="train.csv, train_images/",
    resize="squash",  # ConRec code: resized whole, whatever the aspect; a crop would cut off the eye
)
