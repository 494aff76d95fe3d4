"""What the pages name and every reader has: runs, weights, images, sets, sweeps; small, and made when it is named."""

import io
import json
import re
import shlex
import shutil
import tarfile
from collections.abc import Callable
from itertools import cycle, pairwise, product
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from probekit.models.backbones import import_timm
from tests.data.importers import formats, in_arrays, layouts
from tests.data.importers.planned import HEIGHT, WIDTH, Camera
from tests.data.importers.test_boxes import OBJECT, annotate
from tests.datasets import noise_npz, small_shapes
from tests.models.foreign.base import SIDE, VIT, folder_of_safetensors, model_of_timm
from tests.test_hints import ROOT
from tests.train.test_loop import stop_after
from tests.typed import typed

NET = "--set model.width=4 --set model.depth=2"
TRAIN = "--epochs 1 --batch-size 8"
GREY = f"{TRAIN} {NET} --data data/rect-tri.h5 --name"
COLOUR = f"{TRAIN} {NET} --data data/voc2007.h5 --name"
VOC = "import voc2007,voc2012 ~/sets/VOCdevkit --subset --skip-broken"

# How each is made, or what it is a copy of. What a command names is made first.
RUNS = {
    "stopped": f"pretrain conrec {GREY} stopped",
    "RUN": f"pretrain conrec --set train.keep_every=1 {GREY} RUN",
    "m": f"pretrain moco-v2 --branch lcr {GREY} m",
    "MOCO": f"pretrain moco-v2 {GREY} MOCO",
    "VICREG": f"pretrain vicreg {GREY} VICREG",
    "XCORR": f"pretrain swav --branch xcorr {COLOUR} XCORR",
    "SWAV": f"pretrain swav {COLOUR} SWAV",
    "PHOTOGRAPHS": f"pretrain simclr {TRAIN} {NET} --data photographs.h5 --name PHOTOGRAPHS",
    "encoder-shapes": "probe --encoder py:mine:encoder --data data/shapes.h5 --no-baselines",
    "test_vit-shapes": "probe --encoder timm:test_vit --data data/shapes.h5 --no-baselines",
    "resnet18-shapes": "probe --encoder timm:resnet18 --data data/shapes.h5 --no-baselines",
}
COPIES = {
    **dict.fromkeys(("demo-conrec", "conrec-rect-tri", "simclr-rect-tri", "simclr-landolt", "unet-demo-quick"), "RUN"),
    **dict.fromkeys(("table1-rect-tri-conrec-seed0", "table1-rect-tri-simclr-seed0"), "RUN"),
    **dict.fromkeys(("my-lcr-run", "LCR"), "m"),
    "my-vit": "test_vit-shapes",
    "efficientnet-lite0": "RUN",
    "finished": "RUN",
    **{f"stopped{number}": "stopped" for number in range(9)},
}
DATA = {
    "data/photos.h5": "import photos --size 32 --test-fraction 0.2 --out data/photos.h5",
    "data/digits.h5": "import photos --size 32 --test-fraction 0.2 --out data/digits.h5",
    "photos.h5": "import photos --size 32 --test-fraction 0.2 --out photos.h5",
    "photographs.h5": "import photos --store short:512 --test-crop 32:32 --test-fraction 0.2 --out photographs.h5",
    "data/masked.h5": "import photos --masks outlines --size 32 --test-fraction 0.2 --out data/masked.h5",
    "data/scans.h5": "import scans.parquet --group patient --size 32 --out data/scans.h5",
    "scans.h5": "import scans.parquet --group patient --size 32 --out scans.h5",
    "data/voc.h5": f"{VOC} --boxes --size 64 --out data/voc.h5",
    "data/voc2007.h5": f"{VOC} --boxes --size 32 --out data/voc2007.h5",
    "data/coco2017.h5": f"{VOC} --boxes --size 64 --out data/coco2017.h5",
    "data/voc2012.h5": "import voc2012 ~/sets/VOCdevkit --subset --skip-broken --size 32 --out data/voc2012.h5",
    "data/aptos2019.h5": "import aptos2019 ~/sets/aptos2019 --subset --skip-broken --size 32 --out data/aptos2019.h5",
    "data/scenes.h5": "gen scenes --n 8 --n-test 4 --size 64 --out data/scenes.h5",
    "data/million.h5": "gen rect-tri --n 60 --n-test 60 --size 32 --shards 2 --out data/million.h5",
}
GENERATED = {"data/landolt.h5": "landolt"} | dict.fromkeys(
    (
        *(f"data/{name}.h5" for name in ("rect-tri", "hard", "shapes", "birds", "cub200", "flowers102", "demo-quick")),
        *("NEW.h5", "LABELLED.h5"),
    ),
    "rect-tri",
)


def photos(path: Path, *kinds: str) -> None:
    """A folder of noise for each class."""
    draw = np.random.default_rng(0)
    for kind, number in product(kinds, range(10)):
        (path / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 30), np.uint8)).save(path / kind / f"{number}.png")


def outlines(path: Path) -> None:
    """A mask for each photograph of class b."""
    (path / "b").mkdir(parents=True)
    mask = np.zeros((40, 30), np.uint8)
    mask[10:20, 10:20] = 1
    for number in range(10):
        Image.fromarray(mask).save(path / "b" / f"{number}.png")


def published(path: Path) -> None:
    """The ConRec paper's two files."""
    path.mkdir()
    for name in ("rectangle-triangle", "circle-square"):
        noise_npz(path / f"{name}.npz")


def weights(path: Path) -> None:
    """Of whatever backbone the pages name, as small as timm has it."""
    timm = import_timm()
    names = ("test_resnet", "test_vit")
    torch.save({name: timm.create_model(name, num_classes=0).state_dict() for name in names}, path)


def snapshot(path: Path) -> None:
    """A folder as a hub's repositories are."""
    model = model_of_timm("vit_base_patch16_224", VIT)
    about = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, SIDE, SIDE]}
    config = {"architecture": "vit_base_patch16_224", "model_args": VIT, "pretrained_cfg": about}
    folder_of_safetensors(path, config, model.state_dict())


def graph(path: Path) -> None:
    """A convolution, its activation, and the mean over cells."""
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["/layer4/Relu_output_0"]),
        helper.make_node("GlobalAveragePool", ["/layer4/Relu_output_0"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    weight = np.random.default_rng(0).normal(size=(8, 1, 4, 4)).astype(np.float32)
    taken = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 1, "h", "w"))]
    given = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)]
    made = helper.make_graph(nodes, "g", taken, given, [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def script(path: Path) -> None:
    """A network that was traced."""
    network = nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.ReLU())
    torch.jit.trace(network, torch.zeros(2, 1, 32, 32)).save(path)  # type: ignore[no-untyped-call]


def module(path: Path) -> None:
    """As the page has its readers write it."""
    page = (ROOT / "docs/tutorial-encoder.md").read_text().partition("## From the command line")[2]
    found = re.search(r'write_text\("""(.*?)"""\)', page, re.S)
    assert found is not None
    path.write_text(found[1])


def scans(path: Path) -> None:
    """A table of images with a patient each."""
    pq.write_table(formats.table("train").rename_columns(["image", "label", "patient"]), path)


def shards(path: Path) -> None:
    """A folder of two, of whatever name."""
    done = typed(*shlex.split("gen rect-tri --n 32 --n-test 16 --size 32 --shards 2 --out set.h5"), cwd=path.parent)
    assert done.returncode == 0, done.stderr
    path.with_suffix(".h5").rename(path)


def tars(path: Path) -> None:
    """As many as the page says, an image in each, of a patient in every two."""
    path.mkdir()
    for number, image in zip(range(100), cycle(formats.pictures("train")), strict=False):
        about = json.dumps({"json_key": formats.NAMES[number % 3], "patient": f"p{number // 2}"})
        with tarfile.open(path / f"train-{number:06}.tar", "w") as file:
            for end, content in (("png", formats.png(image)), ("json", about.encode())):
                member = tarfile.TarInfo(f"{number:06}.{end}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))


def devkit(path: Path) -> None:
    """Of both years, whose images all show a cat and a dog."""
    camera = Camera()
    layouts.voc(path.parent, "VOC2007", {"train": ("train", 10), "val": ("val", 4), "test": ("test", 12)}, camera)
    layouts.voc(path.parent, "VOC2012", {"train": ("train", 6), "test": ("val", 4)}, camera)
    for lists in path.glob("VOC*/ImageSets/Main"):
        for train in [*lists.glob("*train.txt")]:
            before = train.name.removesuffix("train.txt")  # one of the classes is train
            val, both = (train.with_name(f"{before}{name}.txt") for name in ("val", "trainval"))
            both.write_text(train.read_text() + val.read_text())
    objects = [OBJECT.format("cat", 0, 1, 1, WIDTH // 2, HEIGHT), OBJECT.format("dog", 0, 11, 6, WIDTH, 25)]
    for folder in path.glob("VOC*/Annotations"):
        annotate(folder, *objects)


SWEEP = """# A small one.
preset = "quick"
seeds = [0]
set = ["train.batch_size=8", "train.epochs=1", "model.width=4", "model.depth=2"]
[[datasets]]
name = "own"
file = "data/rect-tri.h5"
[[rows]]
method = "simclr"
"""
FILES: dict[str, Callable[[Path], object]] = {
    "photos": lambda path: photos(path, "a", "b"),
    "scans": lambda path: photos(path, "a"),
    "outlines": outlines,
    "published": published,
    "scans.parquet": scans,
    "mine.py": module,
    "set": shards,
    "raw.h5": lambda path: formats.hdf5(path.parent).source.rename(path),
    "dsprites.npz": lambda path: formats.dsprites(path.parent),
    "food101": lambda path: formats.parquet(path.parent).source.rename(path),
    "shards": tars,
    "dinov2-small": snapshot,
    "resnet.onnx": graph,
    "resnet.pt": script,
    "sets/CUB_200_2011": lambda path: layouts.cub200(path.parent),
    "sets/imagenet": lambda path: layouts.imagenet(path),
    "sets/VOCdevkit": devkit,
    "sets/stl10_binary": lambda path: in_arrays.stl10(path.parent),
    "sets/aptos2019": lambda path: layouts.aptos2019(path),
    "sets/cifar-100-python": lambda path: in_arrays.cifar100(path.parent),
    **dict.fromkeys(("mine.toml", "s.toml"), lambda path: path.write_text(SWEEP)),
    **dict.fromkeys(
        ("FILE", "dino.pth", "dino_resnet50.pth", "moco.pth", "moco_v2.pth.tar", "resnet50.pth", "densenet121.pth"),
        weights,
    ),
}
NAMED = {
    "py:mine:encoder": "mine.py",
    "hf:dinov2-small/": "dinov2-small",
    "onnx:resnet.onnx": "resnet.onnx",
    "onnx:resnet.onnx:/layer4/Relu_output_0": "resnet.onnx",
    "torchscript:resnet.pt": "resnet.pt",
    "shards/train-{000000..000099}.tar": "shards",
}


class Shelf:
    """A folder in which each thing is made once; `bring` puts copies into others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def bring(self, words: list[str], folder: Path) -> None:
        """All that the words of a command name, and is not in the folder yet."""
        named = (word for option, word in pairwise(["", *words]) if option != "--out")
        for place in filter(None, map(place_of, named)):
            own, there = self.folder / place, folder / place
            if not own.exists():
                own.parent.mkdir(parents=True, exist_ok=True)
                self._make(place, own)
            if not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(own, there) if own.is_dir() else shutil.copy2(own, there)
            self.bring(needed(place) if place.startswith("runs/") else [], folder)

    def _make(self, place: str, path: Path) -> None:
        name = place.rpartition("/")[2]
        if place.startswith("runs/") and name in COPIES:
            self.bring([COPIES[name]], self.folder)
            shutil.copytree(path.with_name(COPIES[name]), path)
        elif place in GENERATED:
            small_shapes(path, generator=GENERATED[place])
        elif place in FILES:
            FILES[place](path)
        else:
            words = shlex.split(RUNS[name] if place.startswith("runs/") else DATA[place])
            self.bring(needed(place), self.folder)
            with pytest.MonkeyPatch.context() as patch:
                if name == "stopped":
                    stop_after(2, patch)
                done = typed(*at_home(words, self.folder), cwd=self.folder)
            assert done.returncode == (name == "stopped"), (words, done.stderr)


def place_of(word: str) -> str | None:
    """Where in the folder lies what a word of a command names; None if it names no thing."""
    word = NAMED.get(word, word).removeprefix("~/").removesuffix("/*.h5").rstrip("/")
    name = re.split("[@:]", word)[0]
    if name in RUNS or name in COPIES:
        return f"runs/{name}"
    return word if word in DATA or word in GENERATED or word in FILES else None


def needed(place: str) -> list[str]:
    """What the command names by which a thing is made, but for itself: a run's images, an encoder's code."""
    name = place.removeprefix("runs/")
    own = COPIES.get(name, name)
    words = shlex.split(RUNS[own] if place.startswith("runs/") else DATA[place])
    return [word for word in words if place_of(word) not in (place, f"runs/{own}")]


def at_home(words: list[str], folder: Path) -> list[str]:
    """Words as a shell gives them, in whose home a reader's folder is."""
    return [f"{folder}{word[1:]}" if word.startswith("~/") else word for word in words]
