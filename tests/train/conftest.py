"""A GPU that is none: what a recording asks of `torch.cuda`, so that its own logic runs anywhere."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

CPU = torch.device("cpu")
POOL = (0, 7)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that do nothing, and a name for the memory of a recording."""
    stream = SimpleNamespace(wait_stream=lambda other: None, device=CPU)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: POOL)
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.default_generator,))
