"""Before any test imports torchvision, an oracle, it is imported as the product does. And no test is timed.

A test marked `gpu` needs a GPU (`pytest -m gpu` runs these alone), and is skipped without one, here and nowhere else.
"""

import pytest
import torch
from hypothesis import settings

from probekit.models.torchvision_operators import import_module

settings.register_profile("untimed", deadline=None)  # a busy machine must not fail a test
settings.load_profile("untimed")
import_module("torchvision")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
