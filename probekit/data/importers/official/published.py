"""The MD5 sums of the archives and arrays that authors, or those who keep them, publish: is a file the one they mean?

Sources: torchvision 0.28 (`torchvision/datasets`) and MedMNIST 3.0.2 (`medmnist/info.py`); where a set was published
twice, both sums. Sets of photographs are not compared: their files are many.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from probekit.visible import some

IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
SIDES = ("", "_64", "_128", "_224")  # of MedMNIST's files


def _idx(*sums: str) -> dict[str, tuple[str, ...]]:
    return {name: (found,) for name, found in zip(IDX, sums, strict=True)}


def _sides(name: str, *sums: str) -> dict[str, tuple[str, ...]]:
    """By the files of a set of `MEDMNIST`."""
    table = {f"{name}{side}.npz": (found,) for side, found in zip(SIDES, sums, strict=False)}
    return table | {f"{name}.npz": (sums[0], *sums[len(SIDES) :])}


MEDMNIST = {  # of 28, 64, 128 and 224 px, and then of an earlier release of 28 px
    "pathmnist": (
        "a8b06965200029087d5bd730944a56c1",
        "55aa9c1e0525abe5a6b9d8343a507616",
        "ac42d08fb904d92c244187169d1fd1d9",
        "2c51a510bcdc9cf8ddb2af93af1eadec",
    ),
    "chestmnist": (
        "02c8a6516a18b556561a56cbdd36c4a8",
        "9de6cd0b934ebb5b7426cfba5efbae16",
        "db107e5590b27930b62dbaf558aebee3",
        "45bd33e6f06c3e8cdb481c74a89152aa",
    ),
    "dermamnist": (
        "0744692d530f8e62ec473284d019b0c7",
        "b70a2f5635c6199aeaa28c31d7202e1f",
        "2defd784463fa5243564e855ed717de1",
        "8974907d8e169bef5f5b96bc506ae45d",
    ),
    "octmnist": (
        "c68d92d5b585d8d81f7112f81e2d0842",
        "e229e9440236b774d9f0dfef9d07bdaf",
        "0a97e76651ace45c5d943ee3f65b63ae",
        "abc493b6d529d5de7569faaef2773ba3",
    ),
    "pneumoniamnist": (
        "28209eda62fecd6e6a2d98b1501bb15f",
        "8f4eceb4ccffa70c672198ea285246c6",
        "05b46931834c231683c68f40c47b2971",
        "d6a3c71de1b945ea11211b03746c1fe1",
    ),
    "retinamnist": (
        "bd4c0672f1bba3e3a89f0e4e876791e4",
        "afda852cc34dcda56f86ad2b2457dbcc",
        "e48e916a24454daf90583d4e6efb1a18",
        "eae7e3b6f3fcbda4ae613ebdcbe35348",
    ),
    "breastmnist": (
        "750601b1f35ba3300ea97c75c52ff8f6",
        "742edef2a1fd1524b2efff4bd7ba9364",
        "363e4b3f8d712e9b5de15470a2aaadf1",
        "b56378a6eefa9fed602bb16d192d4c8b",
    ),
    "bloodmnist": (
        "7053d0359d879ad8a5505303e11de1dc",
        "2b94928a2ae4916078ca51e05b6b800b",
        "adace1e0ed228fccda1f39692059dd4c",
        "b718ff6835fcbdb22ba9eacccd7b2601",
    ),
    "tissuemnist": (
        "ebe78ee8b05294063de985d821c1c34b",
        "123ece2eba09d0aa5d698fda57103344",
        "61b955355d7425a89687b06cca3ce0c2",
        "b077128c4a949f0a4eb01517f9037b9c",
    ),
    "organamnist": (
        "68e3f8846a6bd62f0c9bf841c0d9eacc",
        "2dcccc29b88e6da5a01161ef20cda288",
        "eeae80d0a227a8d099027e1b3cfd3b60",
        "50747347e05c87dd3aaf92c49f9f3170",
        "866b832ed4eeba67bfb9edee1d5544e6",
    ),
    "organcmnist": (
        "b9ceb9546e10131b32923c5bbeaea2b1",
        "3ce34a8724ea6f548e6db4744d03b6a9",
        "773c1f009daa3fe5d9a2a201b2a7ed94",
        "050f5e875dc056f6768abf94ec9995d1",
        "0afa5834fb105f7705a7d93372119a21",
    ),
    "organsmnist": (
        "9ab87b696fb54e2a387ebe992d6ed5f1",
        "53a6d115339d874c25e309a994ff46d3",
        "ded0c5fa01a95dc4978b956f613e9b8e",
        "b354719e553fbbb2513d5533f52a4cb1",
        "e5c39f1af030238290b9557d9503af9d",
    ),
}
PUBLISHED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "cifar10": {
        "data_batch_1": ("c99cafc152244af753f735de768cd75f",),
        "data_batch_2": ("d4bba439e000b95fd0a9bffe97cbabec",),
        "data_batch_3": ("54ebc095f3ab1f0389bbae665268c751",),
        "data_batch_4": ("634d18415352ddfa80567beed471001a",),
        "data_batch_5": ("482c414d41f54cd18b22e5b47cb7c3cb",),
        "test_batch": ("40351d587109b95175f43aff81a1287e",),
    },
    "cifar100": {
        "train": ("16019d7e3df5f24257cddd939b257f8d",),
        "test": ("f0ef6b0ae62326f3e7ffdfab6717acfc",),
    },
    "mnist": _idx(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": _idx(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "kmnist": _idx(
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
    "stl10": {
        "train_X.bin": ("918c2871b30a85fa023e0c44e0bee87f",),
        "train_y.bin": ("5a34089d4802c674881badbb80307741",),
        "test_X.bin": ("7f263ba9f9e0b06b93213547f721ac82",),
        "test_y.bin": ("36f9794fa4beb8a2c72628de14fa638e",),
        "unlabeled_X.bin": ("5242ba1fed5e4be9e1e742405eb56ca4",),
    },
    "svhn": {
        "train_32x32.mat": ("e26dedcc434d2e4c54c9b2d4a06d8373",),
        "test_32x32.mat": ("eb5a983be6a315427106f1b164d9cef3",),
        "extra_32x32.mat": ("a93ce644f1a588dc4d68dda5feec44a7",),
    },
    **{name: _sides(name, *sums) for name, sums in MEDMNIST.items()},
}


def compare(name: str, files: Sequence[Path]) -> list[str]:
    """A line on the files that are not those their authors publish; files without a published sum are passed over.

    A ValueError if a file is that of another set: MNIST and those after it have the same names.
    """
    others = []
    for path in files:
        wanted = PUBLISHED.get(name, {}).get(path.name)
        if wanted is None:
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        other = next((other for other, sums in PUBLISHED.items() if found in sums.get(path.name, ())), name)
        if other != name:
            raise ValueError(
                f"expected {name}, found {path.name} of {other} in {path.parent}; "
                f"type: probekit import {other} {quote(str(path.parent))}"
            )
        if found not in wanted:
            others.append(path.name)
    if not others:
        return []
    return [f"by MD5, not the file that is published: {some(others)}; taken as it is"]
