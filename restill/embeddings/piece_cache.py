"""The teacher's vectors of its own pieces, kept on this machine: they are the same for every data version."""

import contextlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restill.embeddings.teacher import Teacher
from restill.files import write_whole


class CachedPieces:
    """A teacher that reads each of its pieces alone only once."""

    def __init__(self, teacher: Teacher, path: Path) -> None:
        """Keep vectors in a file.

        Args:
            teacher: who is asked.
            path: a `.npy` file named by the teacher's fingerprint; a damaged one is made anew.
        """
        self._teacher = teacher
        self._path = path

    def token_embeddings(self) -> NDArray[np.float32]:
        """Return the input embedding of every piece, ``[pieces, width]``."""
        return self._teacher.token_embeddings()

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Return the output vector of each sentence, ``[len(sentences), dimension]``."""
        return self._teacher.encode(sentences)

    def embed_tokens(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the output vector of each piece read alone, ``[len(ids), dimension]``."""
        wanted = np.asarray(ids, np.int64)
        known: NDArray[np.float32] | None = None
        with contextlib.suppress(OSError, ValueError):  # none yet, or half of one: asked for again
            known = np.load(self._path, allow_pickle=False)
        missing = wanted if known is None else wanted[(wanted >= len(known)) | ~_has(known, wanted)]
        if len(missing):
            answers = self._teacher.embed_tokens(missing.tolist())
            size = max(int(wanted.max()) + 1, 0 if known is None else len(known))
            grown = np.full((size, answers.shape[1]), np.nan, np.float32)
            if known is not None:
                grown[: len(known)] = known
            grown[missing] = answers
            known = grown
            _save(self._path, known)
        assert known is not None, "whatever was wanted is known by now"  # noqa: S101
        return known[wanted]


def _has(known: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pieces have a vector; a row that is not known is NaN."""
    found: NDArray[np.bool_] = ~np.isnan(known[np.minimum(ids, len(known) - 1), 0])
    return found


def _save(path: Path, vectors: NDArray[np.float32]) -> None:
    buffer = BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    write_whole(path, buffer.getvalue())
