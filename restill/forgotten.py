"""What was removed on request and must not come back: `data/forgotten.json`, a part of every version after it.

It holds digests, not texts: of pairs, of sentences, and of the names of sources.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from restill import keys as hashing
from restill.errors import IntegrityError
from restill.files import write_whole
from restill.keys import Keys
from restill.snapshots import DATA, POINTER

FILE = "forgotten.json"


class Forgotten(BaseModel):
    """Digests of what was removed, each sorted: 16 hex digits, of a pair the first 16 of its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @classmethod
    def named(cls, *, pair_ids: Iterable[str], texts: Iterable[str], sources: Iterable[str]) -> "Forgotten":
        """Return what forgets these pairs, every pair with one of these sentences, and all of these sources."""
        return cls(
            pairs=tuple(sorted({identity[:16] for identity in pair_ids})),
            sentences=tuple(sorted(set(_digits(hashing.sentence_keys, texts)))),
            sources=tuple(sorted(set(_digits(hashing.text_keys, sources)))),
        )

    def joined(self, other: "Forgotten") -> "Forgotten":
        """Return what either of the two forgets."""
        return Forgotten(
            pairs=tuple(sorted({*self.pairs, *other.pairs})),
            sentences=tuple(sorted({*self.sentences, *other.sentences})),
            sources=tuple(sorted({*self.sources, *other.sources})),
        )

    def matches(self, pair: Keys, key_a: Keys, key_b: Keys, sources: pl.Series) -> NDArray[np.bool_]:
        """Return which pairs are forgotten, by the keys of pair and sentences, and by the source: ``[pairs]``."""
        sentences = _keys(self.sentences)
        found = np.isin(pair, _keys(self.pairs)) | np.isin(key_a, sentences) | np.isin(key_b, sentences)
        return found | np.isin(hashing.text_keys(sources), _keys(self.sources)) if self.sources else found


NOTHING_FORGOTTEN = Forgotten()


def read(root: Path) -> Forgotten:
    """Return what is forgotten in the working copy's version.

    Raises: IntegrityError if the file is not what Restill writes.
    """
    path = root / DATA / FILE
    try:
        return Forgotten.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return NOTHING_FORGOTTEN
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: {error}", hint=f"Bring it back: git checkout {POINTER}") from error


def write(root: Path, forgotten: Forgotten) -> None:
    """Keep what is forgotten beside the pairs."""
    write_whole(root / DATA / FILE, (forgotten.model_dump_json(indent=1) + "\n").encode())


def _digits(key: Callable[[pl.Series], Keys], values: Iterable[str]) -> list[str]:
    texts = pl.Series(list(values), dtype=pl.String).str.normalize("NFC").str.strip_chars()
    return list(hashing.hexadecimal(key(texts))) if len(texts) else []


def _keys(digits: tuple[str, ...]) -> Keys:
    return hashing.from_hexadecimal(pl.Series(digits, dtype=pl.String))
