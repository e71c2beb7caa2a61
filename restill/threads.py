"""Work on a stream of chunks in threads: the libraries that do it (polars, Arrow, DuckDB) hold no lock on Python."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(chunks: Iterable[T], work: Callable[[T], R]) -> Iterator[R]:
    """Yield what `work` makes of each chunk, in their order; as many at once as there are cores.

    The next chunk is taken meanwhile, and no more than one for each core is held.
    """
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        under_way: deque[Future[R]] = deque()
        for chunk in chunks:
            under_way.append(pool.submit(work, chunk))
            if len(under_way) > cores:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
