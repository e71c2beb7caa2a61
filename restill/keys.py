"""Stable names of sentences and pairs: SHA-256, cut, computed by the column.

A key must never change: which split a pair is in, and which pairs are the same, follow from it. SHA-256 by the column
is DuckDB's: it runs without Python's lock, so chunks are hashed on all cores.
"""

import os
import threading

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Keys = NDArray[np.uint64]  # the first 8 bytes of a SHA-256, as a number

_SEPARATOR = "\0"  # stands between hashed texts: no accepted text holds it
_RARE = r"[^\S ]|  |[ßς]"  # any white space but single blanks; letters whose case is not gone in lower case
_DIGEST_BYTES = 32
_AT_ONCE = 262_144  # bounds the memory of texts made of numbers


def sentence_keys(sentences: pl.Series) -> Keys:
    """Return a key for each sentence that is the same for its spellings: Unicode NFKC, no case, one space.

    Args:
        sentences: text without nulls.
    """
    plain = pl.Series(pc.utf8_normalize(sentences.to_arrow(), form="NFKC")).str.to_lowercase().str.strip_chars()
    rare = plain.str.contains(_RARE)
    if rare.any():  # replacing costs five times as much as looking
        folded = plain.filter(rare).str.replace_all(r"\s+", " ").str.replace_all("ß", "ss").str.replace_all("ς", "σ")
        plain = plain.scatter(rare.arg_true(), folded)
    return first_words(_digests(plain))


def pair_digests(text_a: pl.Series, text_b: pl.Series) -> NDArray[np.uint8]:
    """Return the SHA-256 of both texts of each pair, whichever comes first: uint8 ``[pairs, 32]``."""
    pairs = pl.DataFrame({"a": text_a, "b": text_b})
    one_way, other_way = (pl.concat_str(first, second, separator=_SEPARATOR) for first, second in ("ab", "ba"))
    return _digests(pairs.select(pl.when(pl.col("a") <= pl.col("b")).then(one_way).otherwise(other_way)).to_series())


def text_keys(*columns: pl.Series) -> Keys:
    """Return a key of the values of each row; null is a value of its own."""
    frame = pl.DataFrame([column.alias(str(place)) for place, column in enumerate(columns)])
    shown = [pl.when(pl.col(name).is_null()).then(pl.lit("-")).otherwise("+" + pl.col(name)) for name in frame.columns]
    texts = frame.select(pl.concat_str(shown, separator=_SEPARATOR)).to_series()
    distinct = texts.unique()
    if len(distinct) > len(texts) // 4:
        return first_words(_digests(texts))
    keys = pl.Series(first_words(_digests(distinct)), dtype=pl.UInt64)
    return texts.replace_strict(distinct, keys, return_dtype=pl.UInt64).to_numpy()


def shares(keys: Keys) -> NDArray[np.float64]:
    """Return a number in [0, 1) drawn for each key, always the same one: what a split is decided by."""
    found = np.empty(len(keys))
    for start in range(0, len(keys), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found[part] = first_words(_digests("split:" + hexadecimal(keys[part]))) / 2.0**64
    return found


def hexadecimal(keys: Keys) -> pl.Series:
    """Return keys as people and files see them: 16 hex digits."""
    big = np.ascontiguousarray(keys, dtype=">u8")
    return pl.Series(
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), len(big), [None, pa.py_buffer(big)])
    ).bin.encode("hex")


def from_hexadecimal(digits: pl.Series) -> Keys:
    """Return the keys that `hexadecimal` showed; of longer names their first 16 digits."""
    return digits.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64).to_numpy().astype(np.uint64, copy=False)


def pair_ids(digests: NDArray[np.uint8]) -> pl.Series:
    """Return the id of each pair, 32 hex digits, of what `pair_digests` gave."""
    short = np.ascontiguousarray(digests[:, :16])
    return pl.Series(
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(short), [None, pa.py_buffer(short)])
    ).bin.encode("hex")


def first_words(digests: NDArray[np.uint8]) -> Keys:
    """Return the first 8 bytes of each digest as a number; numbers sort as the hex digits do."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8").ravel().astype(np.uint64)


def _digests(texts: pl.Series) -> NDArray[np.uint8]:
    """Return the SHA-256 of each text in UTF-8: uint8 ``[texts, 32]``."""
    if not len(texts):
        return np.empty((0, _DIGEST_BYTES), np.uint8)
    column = texts.rechunk().to_arrow()
    answer = _engine().from_arrow(pa.table({"text": column}))
    found = answer.query("texts", "SELECT unhex(sha256(text)) AS digest FROM texts").to_arrow_table()["digest"]
    parts = [
        np.frombuffer(chunk.buffers()[2], np.uint8, len(chunk) * _DIGEST_BYTES, chunk.offset * _DIGEST_BYTES)
        for chunk in found.chunks
    ]
    return np.concatenate(parts).reshape(-1, _DIGEST_BYTES)


_of_thread = threading.local()  # a DuckDB connection is for one thread


def _engine() -> duckdb.DuckDBPyConnection:
    found: duckdb.DuckDBPyConnection | None = getattr(_of_thread, "connection", None)
    if found is None:
        found = _of_thread.connection = duckdb.connect(config={"threads": os.cpu_count() or 1})
    return found
