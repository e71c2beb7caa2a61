"""The arrays of a corpus: NumPy files that are mapped, not read."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from restill.vocabulary import PAD_ID, UNKNOWN_ID

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Sentences:
    """Every distinct sentence, once."""

    ids: NDArray[np.int32]  # [sentences, max_tokens], 0 pads on the right
    stored: NDArray[np.float32] | None  # the teacher's vectors [stored, dimension]; None: a cross-encoder has none
    rows: NDArray[np.int64]  # [sentences], where in `stored` a sentence's vector is

    @property
    def dimension(self) -> int:
        """Return the width of the teacher's vectors; 0 for a cross-encoder."""
        return 0 if self.stored is None else self.stored.shape[1]

    def teacher_vectors(self, sentences: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the teacher's vectors of these sentences, float32 ``[n, dimension]``."""
        if self.stored is None:
            return np.empty((len(sentences), 0), np.float32)
        return np.asarray(self.stored[self.rows[sentences]])

    def used_tokens(self, vocabulary_size: int) -> NDArray[np.bool_]:
        """Return which tokens occur in a sentence, or pad or are unknown: ``[vocabulary_size]``."""
        used = np.zeros(vocabulary_size, np.bool_)
        used[[PAD_ID, UNKNOWN_ID]] = True
        for start in range(0, len(self.ids), _ROWS_AT_ONCE):
            used[self.ids[start : start + _ROWS_AT_ONCE]] = True
        return used

    def trimmed_ids(self, sentences: NDArray[np.integer], *, multiple: int) -> NDArray[np.int32]:
        """Return ids ``[n, steps]``, padded to the longest of them rounded up to a multiple, so that shapes are few."""
        ids = self.ids[sentences]
        longest = max(1, int((ids != 0).sum(axis=1).max(initial=0)))
        return np.ascontiguousarray(ids[:, : min(-(-longest // multiple) * multiple, ids.shape[1])])


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split as arrays of one length."""

    a: NDArray[np.int32]  # [pairs], row in Sentences
    b: NDArray[np.int32]
    labels: NDArray[np.float32]  # [pairs], NaN: unlabelled
    scores: NDArray[np.float32]  # [pairs], the teacher's cosine, or a cross-encoder's logit
    pair_ids: NDArray[np.bytes_]  # [pairs], for people

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.labels)

    @classmethod
    def create(cls, folder: Path, pairs: int) -> Self:
        """Make the files of a split, to be filled in."""
        folder.mkdir()
        kinds = {"a": "<i4", "b": "<i4", "labels": "<f4", "scores": "<f4", "pair_ids": "S32"}
        return cls(**{name: create_array(folder / f"{name}.npy", kind, (pairs,)) for name, kind in kinds.items()})

    @classmethod
    def open(cls, folder: Path, *, writable: bool = False) -> Self:
        """Map the files of a split."""
        names = cls.__dataclass_fields__
        return cls(**{name: open_array(folder / f"{name}.npy", writable=writable) for name in names})

    def flush(self) -> None:
        """Write what was filled in to disk."""
        for array in (self.a, self.b, self.labels, self.scores, self.pair_ids):
            if isinstance(array, np.memmap):
                array.flush()


def create_array(path: Path, kind: str, shape: tuple[int, ...]) -> Any:
    """Return a new array on disk, filled with zeros.

    Its blocks are taken now: a write to a mapped file that finds the disk full would end the process by a signal.

    Raises: OSError if there is not enough space.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def open_array(path: Path, *, writable: bool = False) -> Any:
    """Return an array that is mapped from disk."""
    return np.load(path, mmap_mode="r+" if writable else "r", allow_pickle=False)
