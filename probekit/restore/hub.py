"""Where the folder of `--encoder hf:` lies: it is named, or it is a repository in the cache of huggingface_hub."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from probekit.models.snapshot import CONFIG, IMAGES, INDEX, OPEN_CLIP, WEIGHTS
from probekit.visible import first_line

REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
DESCRIPTIONS = (CONFIG, OPEN_CLIP, IMAGES)
SAFE = ("model*.safetensors", f"{WEIGHTS[0]}{INDEX}", WEIGHTS[2])
OLD = ("pytorch_model*.bin", f"{WEIGHTS[1]}{INDEX}", WEIGHTS[3])


@dataclass(frozen=True)
class Place:
    """A folder of weights; `revision`: the commit that it is of, "" for a folder that was named."""

    folder: Path
    revision: str = ""


def place_of(name: str, *, allow_download: bool) -> Place:
    """The folder that "hf:FOLDER" or "hf:ORG/NAME[@REVISION]" means.

    `allow_download`: whether huggingface_hub may fetch what its cache lacks. A ValueError if there is no such folder
    and nothing may be fetched, or it cannot be.
    """
    typed = name.partition(":")[2]
    folder, found = Path(typed).expanduser(), REPOSITORY.fullmatch(typed)
    if folder.exists() or found is None:
        return Place(folder)
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ValueError(
            f"expected a folder {typed}, found none, and no huggingface_hub, which looks for repositories; "
            "type: pip install 'huggingface_hub>=0.26'"
        )
    return _from_hub(found[1], found[2], name, allow_download)


def _from_hub(repository: str, revision: str | None, name: str, allow_download: bool) -> Place:
    import huggingface_hub

    about: dict[str, Any] = {"repo_id": repository, "revision": revision, "local_files_only": not allow_download}
    try:
        folder = Path(huggingface_hub.snapshot_download(**about, allow_patterns=[*DESCRIPTIONS, *SAFE]))
        if not any(path.suffix == ".safetensors" for path in folder.iterdir()):
            folder = Path(huggingface_hub.snapshot_download(**about, allow_patterns=[*DESCRIPTIONS, *OLD]))
    except Exception as error:  # of the network, of the hub, of the cache
        if not allow_download:
            raise ValueError(
                f"expected a folder {repository}, or a repository in the cache of huggingface_hub, found neither "
                f"(nothing is downloaded); type: --encoder {quote(name)} --allow-download"
            ) from error
        raise ValueError(
            f"expected the repository {repository} at {revision or 'its newest revision'}, found: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    commit = folder.name if COMMIT.fullmatch(folder.name) else ""
    return Place(folder, commit)
