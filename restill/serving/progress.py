"""How far a download is."""

import threading
from collections.abc import Callable

from tqdm import tqdm

Progress = Callable[[int, int], None]  # bytes that have come, and bytes to come in all


class Download:
    """Counts what comes, from several threads, and tells."""

    def __init__(self, total: int, tell: Progress | None) -> None:
        """Begin a download of `total` bytes; without `tell` a terminal on stderr shows a bar, anything else nothing."""
        self._total = total
        self._come = 0
        self._lock = threading.Lock()
        self._bar = None if tell else tqdm(total=total, desc="champion", unit="B", unit_scale=True, disable=None)
        self._tell = tell

    def __call__(self, more: int) -> None:
        """Count so many bytes more."""
        with self._lock:
            self._come += more
            self._total = max(self._total, self._come)  # a file that turned out to be damaged comes on top
            if self._tell is not None:
                self._tell(self._come, self._total)
            if self._bar is not None:
                self._bar.update(more)

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self._bar is not None:
            self._bar.close()


def silent(come: int, total: int) -> None:
    """Tell nobody."""
