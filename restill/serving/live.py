"""The champion, followed: when its alias moves, the new version takes over while answers go on."""

import logging
import os
import threading
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from restill.serving.champion import POLL_SECONDS, Champion
from restill.serving.pair_model import Prediction

LONGEST_PAUSE_SECONDS = 300.0

_log = logging.getLogger("restill.serving")


class LiveChampion:
    """A champion that is replaced by the next one in the background.

    The next version is loaded and tried out beside the present one, and then takes its place in one assignment: a call
    is answered by one version from beginning to end. Whatever goes wrong before that, the present one stays, the cause
    is logged once, and it is tried again, after ever longer pauses.

    `live.current` is the champion of this moment. To know which version gave an answer, ask that:

        champion = live.current
        champion.predict(pairs), champion.version
    """

    def __init__(self, champion: Champion, *, poll_seconds: float = POLL_SECONDS) -> None:
        """Follow a loaded champion's alias from its entry on, until `close`.

        Args:
            champion: from `Champion.load`.
            poll_seconds: time between two looks at the alias, each one small request.
        """
        self._champion = champion
        self._poll_seconds = poll_seconds
        self._stop, self._refreshing, self._resuming = threading.Event(), threading.Lock(), threading.Lock()
        self.reloads = 0
        self.failed_reloads = 0  # looks at the alias that failed included
        self.checked_at = datetime.now(UTC)  # when the alias was last known to name what is served
        self.problem: str | None = None  # why the last try failed
        self._causes: set[str] = set()  # that were logged since the last success
        self._start()
        _alive.add(self)

    @property
    def current(self) -> Champion:
        """Return the champion of this moment. It answers for as long as it is held, also after a swap."""
        if self._thread is None:
            self._resume()
        return self._champion

    @property
    def version(self) -> str:
        """Return the version that answers now."""
        return self.current.version

    def similarity(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the cosine of each pair, as `PairModel.similarity`."""
        return self.current.similarity(pairs)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, as `PairModel.embed`. Those of two versions have nothing to do with each other."""
        return self.current.embed(texts)

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[Prediction]:
        """Return similarity, probability and decision for each pair, as `PairModel.predict`."""
        return self.current.predict(pairs)

    def refresh(self) -> bool:
        """Look at the alias now, and return whether another version took over.

        Raises: StorageUnreachable, IntegrityError, and whatever a model that cannot be run raises; the present
        champion then stays.
        """
        with self._refreshing:
            champion = self._champion
            looked_at = datetime.now(UTC)
            entry = champion.newer()
            if entry is not None:
                self._champion = champion.successor(entry)  # one assignment, after everything that can fail
                self.reloads += 1
                _log.info("%s is now %s (number %d)", entry.alias, entry.version, entry.sequence)
            self.checked_at = looked_at
            self.problem = None
            self._causes.clear()
            return entry is not None

    def close(self) -> None:
        """Follow no longer. What is loaded goes on answering."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)  # a download under way may take longer; it ends with the process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        thread = threading.Thread(target=self._follow, name="restill-reload", daemon=True)
        thread.start()
        self._thread: threading.Thread | None = thread

    def _resume(self) -> None:
        """Follow in a forked process too, from its first question on."""
        with self._resuming:
            if self._thread is None and not self._stop.is_set():
                self._start()

    def _after_fork(self) -> None:
        """Forget the thread, which a fork does not copy, and what it may have held."""
        ended = self._stop.is_set()
        self._stop, self._refreshing, self._resuming = threading.Event(), threading.Lock(), threading.Lock()
        self._thread = None
        if ended:
            self._stop.set()

    def _follow(self) -> None:
        pause = self._poll_seconds
        while not self._stop.wait(pause):
            try:
                self.refresh()
                pause = self._poll_seconds
            # Whatever is wrong with the next one, the present one answers on, and its alias is followed. A panic of the
            # tokenizer's library is no Exception.
            except BaseException as error:  # noqa: BLE001
                pause = min(2 * pause, max(LONGEST_PAUSE_SECONDS, self._poll_seconds))
                self._note(error)

    def _note(self, error: BaseException) -> None:
        self.failed_reloads += 1
        self.problem = f"{type(error).__name__}: {error}"
        if self.problem not in self._causes:
            self._causes.add(self.problem)
            _log.warning("%s stays: %s", self._champion.version, self.problem)


_alive: "weakref.WeakSet[LiveChampion]" = weakref.WeakSet()


def _after_fork() -> None:
    for live in list(_alive):
        live._after_fork()


if hasattr(os, "register_at_fork"):  # systems that can fork
    os.register_at_fork(after_in_child=_after_fork)
