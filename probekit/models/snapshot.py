"""A folder of weights with a description, as repositories of models are downloaded: `--encoder hf:FOLDER`.

Hugging Face's transformers, timm and open_clip each have their own description. Nothing in the folder is run.
"""

import hashlib
from pathlib import Path
from shlex import quote
from typing import Any

from probekit.files import read_json, sha256
from probekit.models.checkpoint import Checkpoint, read_checkpoint
from probekit.models.described import Config, Network, network_of, open_clip_network
from probekit.models.inputs import Expected, of_open_clip, of_timm, of_transformers
from probekit.visible import some

CONFIG, OPEN_CLIP, IMAGES = "config.json", "open_clip_config.json", "preprocessor_config.json"
# In the order in which they are taken: each whole, or an index of its parts.
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
INDEX = ".index.json"


def network_in(folder: Path) -> Network:
    """The network that a folder describes; a ValueError if it describes none, or none that timm has."""
    name = _config_of(folder)
    config = Config(read_json(folder / name), str(folder / name))
    return open_clip_network(config) if name == OPEN_CLIP else network_of(config)


def expected_in(folder: Path) -> Expected:
    """Which images the weights in a folder expect, as far as it says so."""
    name = _config_of(folder)
    config, where = read_json(folder / name), str(folder / name)
    if name == OPEN_CLIP:
        size = Config(config, where).part("model_cfg").part("vision_cfg").whole("image_size", 224)
        return of_open_clip(Config(config, where).part("preprocess_cfg"), size, where)
    if isinstance(config.get("pretrained_cfg"), dict):
        return of_timm(config["pretrained_cfg"], where)
    path = folder / IMAGES
    return of_transformers(read_json(path), str(path)) if path.is_file() else Expected()


def weights_in(folder: Path) -> Checkpoint:
    """All tensors of a folder, of one file or of several that an index names.

    A ValueError if there are none, or some that the index names are not there.
    """
    _config_of(folder)
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read_checkpoint(folder / name)
        if (folder / (name + INDEX)).is_file():
            return _joined(folder, folder / (name + INDEX))
    found = some(sorted(path.name for path in folder.iterdir())) or "an empty folder"
    raise ValueError(f"expected {' or '.join(WEIGHTS[:2])} in {folder}, found {found}; download the whole snapshot")


def _joined(folder: Path, index: Path) -> Checkpoint:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(type(name) is str for name in places.values()):
        raise ValueError(f"expected a weight_map from tensors to files in {index}, found {type(places).__name__}")
    names = sorted(set(places.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise ValueError(f"expected names of files in {index}, found {some(outside)}")
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(
            f"expected {some(absent)} in {folder}, which {index.name} names, found none; download the rest"
        )
    joined: dict[str, Any] = {}
    for name in names:
        for table in read_checkpoint(folder / name).tables.values():
            joined |= table
    if absent := sorted(places.keys() - joined.keys()):
        raise ValueError(f"expected all tensors that {index} names, found none of the names {some(absent)}")
    digest = hashlib.sha256("".join(sha256(folder / name) for name in names).encode()).hexdigest()
    return Checkpoint(folder, {"": joined}, None, sha256_of_parts=digest)


def _config_of(folder: Path) -> str:
    """The file of a folder that describes its network."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "none"
        hint = f"; a file of weights alone is typed: --encoder timm:NAME --weights {quote(str(folder))}"
        raise ValueError(
            f"expected a folder {folder} with {CONFIG} and weights, found {found}{hint if folder.exists() else ''}"
        )
    both = [name for name in (CONFIG, OPEN_CLIP) if (folder / name).is_file()]
    if not both:
        raise ValueError(
            f"expected {CONFIG} in {folder}, which describes the network, found none; "
            "download the whole snapshot, or type: --encoder timm:NAME --weights FILE"
        )
    theirs = not any((folder / f"{name}{end}").is_file() for name in WEIGHTS[:2] for end in ("", INDEX))
    return OPEN_CLIP if OPEN_CLIP in both and theirs else both[0]
