"""A folder on a hub of models, by huggingface_hub: HF_TOKEN or its login, and HF_ENDPOINT, are the user's own."""

import re
from pathlib import Path
from types import ModuleType

from probekit.visible import first_line

REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
SECRET = re.compile(r"hf_\w+|(?<=Bearer )\S+")  # what a token looks like


def check(repo: str) -> ModuleType:
    """The package; a ValueError if it is not installed, or the repository has no such name."""
    if not REPO.fullmatch(repo):
        raise ValueError(f"expected a repository USER/NAME, found {repo[:80]!r}")
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            f"expected huggingface_hub for push, found: {first_line(error)}; type: pip install huggingface_hub"
        ) from error
    return huggingface_hub


def push(folder: Path, repo: str, *, message: str, private: bool) -> str:
    """Sends every file of a folder in one commit; the repository is made if there is none. Gives its address.

    A ValueError in one line if the hub cannot be reached or refuses; no token is in it.
    """
    api = check(repo).HfApi()
    try:
        url = str(api.create_repo(repo, private=private, exist_ok=True))
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except Exception as error:  # httpx's, requests', its own
        told = SECRET.sub("...", " ".join(str(error).split()))[:300] or type(error).__name__
        raise ValueError(
            f"expected that {api.endpoint} takes {repo}, found: {told}; a login is made by: hf auth login"
        ) from None
    return url
