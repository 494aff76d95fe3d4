"""Labels from a table beside the images, and what is said of one that is not read.

Alone: pytest tests/data/importers/test_table.py
"""

import os
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.importers import Options, beside
from probekit.data.importers.base import Source
from probekit.data.importers.folder import open_folder
from probekit.h5 import read_info, read_split
from tests.data.importers.test_layouts import counted, plant

IMAGES = ("a/1.png", "a/2.png", "b/3.png", "b/4.png")


def opened(root: Path, text: str, column: str = "kind", **options: object) -> Source:
    table = root.parent / "labels.csv"
    table.write_text(text, encoding="utf-8")
    source = open_folder(root, Options(labels_csv=table, column=column, **options))  # type: ignore[arg-type]
    assert source is not None
    return source


# how the table names the images
NAMED: dict[str, str] = {
    "paths": "image,kind\na/1.png,x\na/2.png,y\nb/3.png,x\nb/4.png,y\n",
    "paths of Windows, semicolons": "image;kind\n.\\a\\1.png;x\na\\2.png;y\nb\\3.png;x\nb\\4.png;y\n",
    "paths without endings, tabs": "image\tkind\na/1\tx\na/2\ty\nb/3\tx\nb/4\ty\n",
    "names": "kind,image\nx,1.png\ny,2.png\nx,3.png\ny,4.png\n",
    "names without endings": "id,age,kind\n1,30,x\n2,30,y\n3,40,x\n4,30,y\n",
    "names with other endings, quoted": '\ufeff"file","kind"\r\n"1.jpg","x"\r\n"2.jpg",y\r\n"3.jpg",x\r\n4.jpg,y\r\n',
    "longer paths": "image,kind\ndata/a/1.png,x\ndata/a/2.png,y\ndata/b/3.png,x\ndata/b/4.png,y\n",
    "several rows of an image": "image,box,kind\n1.png,0,x\n1.png,9,x\n2.png,1,y\n3.png,2,x\n4.png,3,y\n",
    "rows of other images": "image,kind\n1.png,x\n2.png,y\n3.png,x\n4.png,y\n5.png,z\n",
}


def test_columns_of_zeros_and_ones_are_classes_of_which_an_image_has_any_number(tmp_path: Path) -> None:
    """As CelebA's list has them, -1 for absent; in the order that was typed."""
    root = plant(tmp_path / "set", *IMAGES)
    for absent in ("0", "-1"):
        text = "image,smiles,young,kind,hat\n1.png,1,0,x,1\n2.png,0,0,y,0\n3.png,1,1,x,0\n4.png,0,1,y,1\n"
        source = opened(root, text.replace(",0", f",{absent}"), "hat,smiles")
        assert source.classes == ("hat", "smiles")
        assert {item.key: tuple(item.label) for item in source.splits["train"]} == {
            "a/1.png": (1, 1), "a/2.png": (0, 0), "b/3.png": (0, 1), "b/4.png": (1, 0),
        }  # fmt: skip
        assert "2 classes, any number of them an image, from as many columns" in source.notes[0]
    refused = {
        "hat,hat": "expected each column once in --column, found 'hat' twice",
        "hat,eyes": "expected one of the columns image, smiles, young, kind, hat",
        "hat,kind": "expected 0 and 1, or -1 and 1, in the columns hat, kind",
    }
    for column, told in refused.items():
        with pytest.raises(ValueError, match=told):
            opened(root, text, column)
    with pytest.raises(ValueError, match=r"found '-1', '0', '1'; what is hidden or uncertain has no label here"):
        opened(root, text.replace("1.png,1", "1.png,-1"), "hat,smiles")
    with pytest.raises(ValueError, match=r"expected one class for 'a/1.png' in .+, found '00', '11'$"):
        opened(root, text.replace(",-1", ",0") + "1.png,0,0,x,0\n", "hat,smiles")
    named = text.replace("kind", '"hat,smiles"')
    assert opened(root, named, "hat,smiles").classes == ("x", "y"), "a column of that name"


@pytest.mark.parametrize("case", NAMED)
def test_the_column_that_names_the_files_is_found(tmp_path: Path, case: str) -> None:
    source = opened(plant(tmp_path / "set", *IMAGES), NAMED[case])
    assert source.classes == ("x", "y")
    assert {item.key: source.classes[item.label] for item in source.splits["train"]} == {
        "a/1.png": "x",
        "a/2.png": "y",
        "b/3.png": "x",
        "b/4.png": "y",
    }
    assert "2 classes from column 'kind'" in source.notes[0]
    assert ("1 rows" in "".join(source.notes)) == (case == "rows of other images")


WRONG: dict[str, tuple[str, str]] = {
    "no such column": ("image,sort\n1.png,x\n", "one of the columns image, sort .*--column 'kind'"),
    "a row is missing": ("image,kind\n1.png,x\n2.png,y\n3.png,x\n", r"none for 1 of train, the first 'b/4.png'"),
    "none fits": ("image,kind\n7.png,x\n8.png,y\n", r"none for 4 of train"),
    "two classes": ("image,kind\n1.png,x\n1.png,y\n2.png,y\n3.png,x\n4.png,y\n", r"one class for 'a/1.png' .*'x', 'y'"),
    "no class": ("image,kind\n1.png,\n2.png,y\n3.png,x\n4.png,y\n", r"one class for 'a/1.png' .*found none"),
    "a value each": ("image,kind\n1.png,a\n2.png,b\n3.png,c\n4.png,d\n", "another value for every image"),
    "empty": ("", "a table with a line of column names"),
    "a short row": ("image,kind\n1.png\n", "expected 2 columns .*found 1 in row 2"),
    "a column twice": ("image,kind,kind\n1.png,x,y\n", "'kind' once"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_that_does_not_fit_is_one_line(tmp_path: Path, case: str) -> None:
    text, line = WRONG[case]
    with pytest.raises(ValueError, match=line) as caught:
        opened(plant(tmp_path / "set", *IMAGES), text)
    assert "\n" not in str(caught.value)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one image for '1.png' .*'a/1.png' and 'b/1.png'"):
        opened(plant(tmp_path / "set", "a/1.png", "b/1.png"), "image,kind\n1.png,x\n")


def test_no_text_is_no_table(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *IMAGES)
    (tmp_path / "latin.csv").write_bytes("image,kind\n1.png,\xe9\n".encode("latin-1"))
    with (tmp_path / "holes.csv").open("wb") as file:
        file.truncate(40 << 30)
    for name, line in {"latin": "UTF-8", "holes": "at most 1 GiB"}.items():
        with pytest.raises(ValueError, match=line):
            open_folder(root, Options(labels_csv=tmp_path / f"{name}.csv", column="kind"))


def test_a_split_without_rows_can_be_left_out(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", "train/1.png", "train/2.png", "train/3.png", "test/4.png")
    text = "image,kind\n1,x\n2,y\n3,y\n"
    with pytest.raises(ValueError, match=r"none for 1 of test, .*; type --skip-split test$"):
        opened(root, text)
    assert counted(opened(root, text, skip_split="test")) == {"train": {"x": 1, "y": 2}}


def test_what_the_line_says_to_type_reads_the_table(tmp_path: Path) -> None:
    root = plant(tmp_path / "my set", *IMAGES)
    (root / "all labels.csv").write_text(NAMED["names without endings"])
    out = str(tmp_path / "a.h5")
    done = CliRunner().invoke(app, ["import", str(root), "--out", out])
    [line] = [line for line in done.output.splitlines() if "--labels-csv" in line]
    assert "all labels.csv (columns id, age, kind) are not read" in line
    typed = shlex.split(line.partition("type ")[2])
    done = CliRunner().invoke(app, ["import", str(root), "--out", out, "--overwrite", *typed])
    assert done.exit_code == 0, done.exception
    info, labels = read_info(Path(out)), read_split(Path(out), "train").labels
    assert info.classes == ("x", "y")
    assert labels is not None
    assert labels.tolist() == [0, 0, 1, 1]
    assert (info.parameters["labels_csv"], info.parameters["column"]) == ("all labels.csv", "kind")


@pytest.mark.parametrize(
    ("head", "column"),
    [("file, label", "label"), (" file ;kind of thing ", "'kind of thing'"), ("file,label,", "label")],
)
def test_the_column_that_the_line_names_is_taken(tmp_path: Path, head: str, column: str) -> None:
    """Blanks around a name are none of it, and a name that is empty is none."""
    end = "," * (head[-1] == ",")
    rows = "".join(f"{file}{';' if ';' in head else ','}{file[0]}{end}\n" for file in IMAGES)
    root = plant(tmp_path / "set", *IMAGES)
    (root / "labels.csv").write_text(f"{head}\n{rows}")
    source = open_folder(root, Options())
    assert source is not None
    [line] = source.notes
    assert line.endswith(f"--column {column}")
    _, file, _, name = shlex.split(line.partition("type ")[2])
    source = open_folder(root, Options(labels_csv=Path(file), column=name))
    assert source is not None
    assert source.classes == ("a", "b")


def test_a_wide_table_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 images x 12 columns took 17 s when every column made the names of all images again."""
    calls: Counter[str] = Counter()

    def counting(kind: str, function: Callable[[str], str]) -> Callable[[str], str]:
        def counted_(text: str) -> str:
            calls[kind] += 1
            return function(text)

        return counted_

    forms = tuple(
        (counting("cell", of_cell), tuple(counting("key", f) for f in of_keys)) for of_cell, of_keys in beside.FORMS
    )
    monkeypatch.setattr(beside, "FORMS", forms)
    keys = [f"a/{number}.png" for number in range(50)]
    rows = [["x", *(f"{number}" for _ in range(12)), key, key] for number, key in enumerate(keys)]
    columns = ["kind", *(f"c{number}" for number in range(12)), "file", "again"]
    named, of_cell, cells = beside._match(keys, columns, rows, "kind")
    assert (named, cells) == ("c0", {key: f"{number}" for number, key in enumerate(keys)})  # the first that names all
    assert of_cell == {f"{number}": [number] for number in range(50)}
    assert calls == {"key": 50 * 6, "cell": 50}


@pytest.mark.parametrize("options", [["--labels-csv", "FILE"], ["--column", "kind"]])
def test_a_table_needs_its_column(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "l.csv").write_text("image,kind\n")
    typed = [str(tmp_path / "l.csv") if word == "FILE" else word for word in options]
    done = CliRunner().invoke(app, ["import", str(plant(tmp_path / "set", *IMAGES)), *typed])
    assert "--labels-csv FILE and --column NAME together" in str(done.exception)


@pytest.mark.parametrize("name", ["labels.csv", "notes.txt"])
def test_a_pipe_beside_the_images_is_not_waited_for(tmp_path: Path, name: str) -> None:
    plant(tmp_path / "set", *IMAGES)
    os.mkfifo(tmp_path / "set" / name)
    source = open_folder(tmp_path / "set", Options())
    assert source is not None
    assert len(source.splits["train"]) == 4
    assert any(name in line for line in (*source.notes, *(skipped.path for skipped in source.ignored)))


def test_with_a_table_masks_are_not_asked_about(tmp_path: Path) -> None:
    """The classes are in it, so a folder beside the masks is no class that is left alone."""
    root = plant(tmp_path / "set", *(f"shoes/{number}.png" for number in range(1, 5)), "masks/1.png")
    assert counted(opened(root, NAMED["names"].replace("kind,image", "kind,file"))) == {"train": {"x": 2, "y": 2}}
