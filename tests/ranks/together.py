"""Processes of one run, forked from the server, as torchrun would start them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._C._distributed_c10d import TCPStore

from tests.forked import SERVER


def together(n: int, folder: Path, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function returns in each of n processes that have joined; of one, alone."""
    store = agent_store()
    children = [
        SERVER.Process(target=_child, args=(rank, n, store.port, folder / f"{n}-{rank}.pt", function, arguments))
        for rank in range(n)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * n
    return [torch.load(folder / f"{n}-{rank}.pt", weights_only=False) for rank in range(n)]


def agent_store() -> TCPStore:
    """Where processes meet: torchrun has it, and outlives them."""
    return TCPStore("localhost", 0, is_master=True, wait_for_workers=False)


def as_rank(rank: int, n: int, port: int) -> None:
    """In a child: what torchrun tells a process of one machine."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()}
    os.environ |= {"MASTER_ADDR": "localhost", "TORCHELASTIC_USE_AGENT_STORE": "True"}


def _child(rank: int, n: int, port: int, path: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    as_rank(rank, n, port)
    from probekit.train.launch import joined

    with joined("cpu"):
        torch.save(function(*arguments), path)
