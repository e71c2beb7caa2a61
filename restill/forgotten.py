"""What was removed on request and must not come back, whatever version of the data set is at hand.

A request is an immutable object of its own, `data/forgotten/<digest>.json`, beside the versions and not in them: going
back to an older version does not bring back what was forgotten. It holds digests, not texts.
"""

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from restill import keys as hashing
from restill.errors import IntegrityError
from restill.keys import Keys
from restill.storage.objects import ObjectStore

FOLDER = "data/forgotten"


class Forgotten(BaseModel):
    """Digests of what was removed, each sorted: 16 hex digits, of a pair the first 16 of its id."""

    model_config = ConfigDict(frozen=True, extra="ignore")

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


class _Request(Forgotten):
    """One request as it is stored."""

    at: datetime  # UTC
    reason: str


def read(store: ObjectStore) -> Forgotten:
    """Return everything that was forgotten.

    Raises: IntegrityError if a request is damaged; StorageUnreachable.
    """
    everything = NOTHING_FORGOTTEN
    for found in store.list(f"{FOLDER}/"):
        try:
            everything = everything.joined(_Request.model_validate_json(store.get(found.key)))
        except ValueError as error:
            raise IntegrityError(
                f"{store.uri(found.key)} is damaged: {error}",
                hint="What it forgot could come back. Bring the object back, or name the same again: data forget.",
            ) from error
    return everything


def add(store: ObjectStore, asked: Forgotten, reason: str) -> None:
    """Keep a request; the same again is fine.

    Raises: StorageUnreachable.
    """
    digest = hashlib.sha256(asked.model_dump_json().encode()).hexdigest()[:32]
    request = _Request(**asked.model_dump(), at=datetime.now(UTC), reason=reason)
    store.create(f"{FOLDER}/{digest}.json", request.model_dump_json(indent=1).encode(), content_type="application/json")


def _digits(key: Callable[[pl.Series], Keys], values: Iterable[str]) -> list[str]:
    texts = pl.Series(list(values), dtype=pl.String).str.normalize("NFC").str.strip_chars()
    return list(hashing.hexadecimal(key(texts))) if len(texts) else []


def _keys(digits: tuple[str, ...]) -> Keys:
    return hashing.from_hexadecimal(pl.Series(digits, dtype=pl.String))
