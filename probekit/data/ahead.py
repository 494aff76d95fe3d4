"""Work that is done ahead, in threads, and used in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Made = TypeVar("Made")


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Job], Made], jobs: Iterable[Job], limit: int
) -> Iterator[tuple[Job, Made]]:
    """Each job with what came of it, in their order; at most `limit` of them are under way or waiting."""
    pending: deque[tuple[Job, Future[Made]]] = deque()
    try:
        for job in jobs:
            pending.append((job, pool.submit(work, job)))
            if len(pending) >= limit:
                first, made = pending.popleft()
                yield first, made.result()
        while pending:
            first, made = pending.popleft()
            yield first, made.result()
    finally:
        for _, made in pending:
            made.cancel()
