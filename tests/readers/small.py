"""The commands of the pages as they are typed in tests: small, and what names something else in its place."""

import re
import shlex

from tests.test_docs import PAGES, commands, lines, pieces
from tests.test_hints import REFUSED, leaves, reason

# Behind each command: what makes it take a second. Of an option that is there already the last counts.
SMALL = {
    "import": "--overwrite",
    "certify": "--n 80",
    "audit": "--n 4",
    "draw": "--n 12",
    "heatmap": "--n 4 --perturb 0",
    "exam": "--items landolt --parts acuity --layers last --size 64",
    "detect": "--preset quick --trials 1 --no-baselines",
}
OFFICIAL = "--subset --skip-broken --size 32"  # of miniatures
# And more behind those in which a pattern is found, of all patterns; `{}` is the command's number.
MORE = {
    "gen (?!--list)": "--n 60 --n-test 60 --size 32",
    "gen (?!--list|.*--engine)": "--overwrite",
    "gen .*--shards": "--shards 5",
    "gen .*--shard 3": "--shard 3/5",
    "import (cub200|imagenet|voc|cifar100|stl10)": OFFICIAL,
    "import imagenet": "--n-classes 2",
    "import photos/ --size 224": "--size 32 --shard 1/2",
    "pretrain(?!.*--resume)": "--epochs 1 --batch-size 8 --name made{}",
    "pretrain(?!.*(--resume|timm:))": "--set model.width=4 --set model.depth=2",
    "pretrain(?!.*(--resume|--data))": "--data data/rect-tri.h5",
    "probe .*--sgd": "--epochs 1",
    r"sweep (mine|s)\.toml": "--name sweep{}",
    "sweep table1 --name try": "--set model.width=4 --set model.depth=2 --set train.batch_size=8",
    "sweep .*--resume": "--name begun",
    "sweep .*--status": "--name begun",
    r"sweep (?!.*(--name|--resume|--status|\.toml))": "--name sweep{}",
    r"sweep (?!.*(--engine|--status|--name try|--dry-run|\.toml))\w": "--dry-run",
    r"sweep (?!table1|.*(--seeds|\.toml))\w": "--seeds 0",
    "pretrain .*--resume(?! --epochs)": "--name stopped{}",
    "pretrain --resume --epochs": "--epochs 2 --name finished",
}
# What stands for another thing, or for one that is small.
IN_PLACE = {
    "METHOD": "conrec",
    "GENERATOR": "rect-tri",
    "help (NAME|TOPIC)": "help faq",
    "sweep NAME": "sweep table1",
    "FOLDER": "published",
    "data/NAME.h5|(?<=--data )FILE|(?<=show )FILE": "data/rect-tri.h5",
    "import NAME ROOT|import cub200 ROOT": "import cub200 ~/sets/CUB_200_2011",
    "import imagenet ROOT": "import imagenet ~/sets/imagenet",
    "import stl10 ROOT": "import stl10 ~/sets/stl10_binary",
    "import voc2007 ROOT": "import voc2007 ~/sets/VOCdevkit",
    "import ROOT": "import photos",
    "RUN RUN@branch": "m m@branch",
    "RUN@cls RUN:blocks.8@cls": "my-vit@cls my-vit:blocks.3@cls",
    "RUN(?=.*--test-crop)": "PHOTOGRAPHS",
    "RUN(?=.*gfb)": "m",
    r"import scans.h5": "import raw.h5",
    r"timm:(resnet50|densenet121|resnet18)": "timm:test_resnet",
    r"timm:convnext_tiny": "timm:test_convnext",
    r"timm:vit_small_patch16_224": "timm:test_vit",
    r"\bRUN RUN( RUN)?\b": "RUN m",
    r"\bRUN (?=.*--pool (cls|last4))": "my-vit ",
    r"--layer 9": "--layer 3",
    r"\bRUN (?=--pool (branch|bilinear))": "m ",
    r"\bRUN (?=.*data/(voc|coco))": "XCORR ",
    r"\bRUN (?=.*--to safetensors,torchvision)": "resnet18-shapes ",
    r"\.\.\.$": "",
    "--published data": "--published published",
}
# What is typed before the first of them.
BEFORE = {
    "compare": (
        *("probe RUN", "probe m", "probe m --pool branch"),
        *("probe my-vit --pool cls", "probe my-vit --layer blocks.3 --pool cls"),
    ),
    "sweep": ("sweep table1 --name begun --engine slurm --slurm time=30",),
}
# What lies there before the first of them is typed.
BESIDE = {
    **dict.fromkeys(("draw", "heatmap", "probe", "exam", "report", "audit", "certify"), "RUN"),
    "sweep": "data/rect-tri.h5",
}
# Typed in another test: which.
ELSEWHERE = {
    "demo --quick": "tests/test_pages.py",  # from the first page on
    "push": "tests/share/test_push.py",  # to a hub that stands in
    "pretrain swav --gpus 2 --device cpu": "tests/ranks/test_runs.py",  # processes
    "pretrain conrec --log csv,wandb": "tests/train/test_loggers.py",  # a service beside it
    "draw RUN --as umap": "tests/draw/test_draw.py",  # what compiles itself for half a minute
    "probe RUN --data data/aptos2019.h5 --cv 5": "tests/probes/test_command.py",  # trains in each of 25 folds
    "exam --selftest": "tests/exams/test_selftest.py",  # half a minute
}
# What prose has of a command in short.
MENTIONED = ("probe --cv-sgd", "gen --n 0", "gen --n-test 0", "pretrain --dry-run")
# Only parsed: why.
PARSED = {
    "pretrain swav --gpus 4": "four GPUs",
    "exam --encoder hf:facebook/dinov2-small@main --allow-download": "a download",
}


def typed_here() -> dict[str, list[str]]:
    """Every command of blocks and every whole one in prose, by its name, but those of the lists above."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for command in {*commands(lines(page)), *filter(whole, commands(pieces(page)))}:
            words = command.removeprefix("probekit ")
            if not any(words.startswith(left) for left in (*ELSEWHERE, *PARSED, *MENTIONED)):
                found.setdefault(command.split()[1], set()).add(command)
    return {name: sorted(found[name]) for name in sorted(found)}


def whole(command: str) -> bool:
    """Whether what prose names can be typed, and is not just a command's name, or an option of it, or dots."""
    words = shlex.split(command)[1:]
    name = next((name for name in leaves() if words[: len(name.split())] == name.split()), "")
    rest = words[len(name.split()) :]
    if not name or not rest or re.search(r"\.\.|\[", command):
        return False
    try:
        leaves()[name].make_context(name, [*rest])
    except REFUSED as error:
        return "Missing" not in reason(error)
    return True


def small(command: str, number: int) -> list[str]:
    """The words of a command as it is typed in a test, `probekit` left out."""
    for pattern, other in IN_PLACE.items():
        command = re.sub(pattern, other, command)
    more = [SMALL.get(command.split()[1], "")]
    more += [words.format(number) for pattern, words in MORE.items() if re.search(f"probekit {pattern}", command)]
    return shlex.split(" ".join((command, *more)))[1:]
