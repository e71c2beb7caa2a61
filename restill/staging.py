"""The rows of one file on their way into the data set: texts on disk, and in memory some 40 bytes a row.

A file is read once into a staged file, chunk by chunk; what concerns several rows (duplicates, splits, what the data
set has) is decided on arrays of keys; then the staged file is read once more, and every row goes where it belongs.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from restill import keys as hashing
from restill.forgotten import NOTHING_FORGOTTEN, Forgotten
from restill.keys import Keys
from restill.pairs import CODES, NAMES, judge_rows
from restill.settings import RowRuleSettings
from restill.threads import in_threads

FILE = "staged.arrow"
CAME = ("label", "source", "language", "created_at", "split")  # kept as they came, for the quarantine
_TEXTS = ("text_a", "text_b")  # kept as they came only where that differs from what would be stored


@dataclass
class Staged:
    """One file's rows: arrays over all of them in the file's order, and the texts on disk."""

    path: Path
    reason: NDArray[np.uint8]  # place in pairs.NAMES; 0: accepted, so far
    key_a: Keys  # of the sentences
    key_b: Keys
    pair: Keys
    swapped: NDArray[np.bool_]  # the first sentence sorts after the second
    labels: NDArray[np.float32]  # NaN: unlabelled
    rest: Keys  # of source, language and time
    asked: NDArray[np.int8]  # the split that the file asks for, or pairs.NOT_ASKED
    forgotten: NDArray[np.bool_]  # was removed on request

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.reason)

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Return which rows have no reason to be kept out, so far."""
        is_accepted: NDArray[np.bool_] = self.reason == 0
        return is_accepted

    @property
    def reasons(self) -> dict[str, int]:
        """Return the number of rows that are kept out, by reason, most frequent first."""
        counts = np.bincount(self.reason, minlength=len(NAMES))
        named = {name: int(counts[code]) for name, code in CODES.items() if name and counts[code]}
        return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))

    def keep_out(self, which: NDArray[np.bool_] | NDArray[np.int64], reason: str) -> None:
        """Give rows a reason to be kept out."""
        self.reason[which] = CODES[reason]

    def chunks(self) -> Iterator[tuple[slice, pl.DataFrame]]:
        """Yield the rows again in their order, and where they are in the arrays.

        The columns are `row`, `text_a`, `text_b`, `label`, `source`, `language`, `created_at` as they would be stored,
        `pair_id`, and `came_…` as they came.
        """
        start = 0
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                frame = pl.DataFrame(pl.from_arrow(batch))
                yield slice(start, start + frame.height), frame
                start += frame.height


_ARRAYS = tuple(name for name in Staged.__dataclass_fields__ if name != "path")


def stage(
    chunks: Iterable[pa.RecordBatch],
    folder: Path,
    rules: RowRuleSettings,
    *,
    honour_split: bool = False,
    gone: Forgotten = NOTHING_FORGOTTEN,
) -> Staged:
    """Judge every row by itself and in its file, and keep all of them in `folder`.

    Args:
        chunks: batches of `readers.RAW_SCHEMA`.
        folder: is there; the staged file is written into it.
        rules: the row rules.
        honour_split: whether the split column says where a pair belongs.
        gone: what was removed on request; such rows are only marked.
    Raises: what reading `chunks` raises; OSError if the disk is full.
    """
    parts: dict[str, list[NDArray[np.generic]]] = {name: [] for name in _ARRAYS}
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(pa.OSFile(str(folder / FILE), "wb"))
        writer = None
        for arrays, table in in_threads(chunks, lambda chunk: _judged(chunk, rules, honour_split, gone)):
            for name, values in arrays.items():
                parts[name].append(values)
            if writer is None:
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                writer = stack.enter_context(pa.ipc.new_stream(file, table.schema, options=options))
            writer.write_table(table)
    whole = {}
    for name in list(parts):  # one after another, so that only one is in memory twice
        whole[name] = np.concatenate(parts.pop(name))
    staged = Staged(folder / FILE, **whole)
    _judge_together(staged)
    return staged


def content_digest(staged: Staged, splits: NDArray[np.int8]) -> str:
    """Return the SHA-256 (hex) of what the accepted rows say and where they go, whatever their order."""
    kept = staged.accepted
    content = {name: getattr(staged, name)[kept] for name in ("pair", "swapped", "labels", "rest")}
    return digest_of_content(**content, splits=splits[kept])


def digest_of_content(
    *,
    pair: Keys,
    swapped: NDArray[np.bool_],
    labels: NDArray[np.float32],
    rest: Keys,
    splits: NDArray[np.int8],
) -> str:
    """Return the SHA-256 (hex) of distinct pairs, whatever their order: arrays of one length, as `Staged` has them."""
    order = np.argsort(pair)
    digest = hashlib.sha256()
    told = np.where(np.isnan(labels), np.float32(-1), labels)  # NaN has several bit patterns
    for values in (pair, swapped, told, rest, splits):
        digest.update(values[order].astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _judged(
    chunk: pa.RecordBatch, rules: RowRuleSettings, honour_split: bool, gone: Forgotten
) -> tuple[dict[str, NDArray[np.generic]], pa.Table]:
    """Return the arrays and the staged rows of one chunk."""
    came = pl.DataFrame(pl.from_arrow(chunk))
    judged = judge_rows(came, rules, honour_split=honour_split)
    digests = hashing.pair_digests(judged["text_a"], judged["text_b"])
    key_a, key_b = hashing.sentence_keys(judged["text_a"]), hashing.sentence_keys(judged["text_b"])
    pair = hashing.first_words(digests)
    made = judged["created_at"].cast(pl.Int64).cast(pl.String)
    arrays: dict[str, NDArray[np.generic]] = {
        "reason": judged["reason"].to_numpy(),
        "key_a": key_a,
        "key_b": key_b,
        "pair": pair,
        "swapped": (judged["text_a"] > judged["text_b"]).to_numpy(),
        "labels": judged["label"].fill_null(float("nan")).to_numpy(),
        "rest": hashing.text_keys(judged["source"], judged["language"], made),
        "asked": judged["asked"].to_numpy(),
        "forgotten": gone.matches(pair, key_a, key_b, judged["source"]),
    }
    staged = _to_stage(came, judged, hashing.pair_ids(digests))
    # Plain strings: polars' own views take twice the time and space to write.
    return arrays, staged.to_arrow(compat_level=pl.CompatLevel.oldest())


def _to_stage(came: pl.DataFrame, judged: pl.DataFrame, pair_ids: pl.Series) -> pl.DataFrame:
    texts = {
        f"came_{name}": pl.select(pl.when(came[name].ne_missing(judged[name])).then(came[name])).to_series()
        for name in _TEXTS
    }
    return judged.drop("asked", "reason").with_columns(
        pair_id=pair_ids, **texts, **{f"came_{name}": came[name] for name in CAME}
    )


def as_it_came(rows: pl.DataFrame) -> pl.DataFrame:
    """Return staged rows with the text that the file had: `row`, `text_a`, `text_b` and the columns in CAME."""
    return rows.select(
        "row",
        *(pl.coalesce(f"came_{name}", name).alias(name) for name in _TEXTS),
        *(pl.col(f"came_{name}").alias(name) for name in CAME),
    )


def _judge_together(staged: Staged) -> None:
    """Find the same pair twice: repeated ones, and ones whose labels contradict each other."""
    rows = np.flatnonzero(staged.accepted)  # rows that failed alone neither repeat nor contradict anything
    rows = rows[np.argsort(staged.pair[rows], kind="stable")]
    pair = staged.pair[rows]
    if not len(pair):
        return
    same_as_before = np.r_[False, pair[1:] == pair[:-1]]
    several = same_as_before | np.r_[same_as_before[1:], False]
    rows = rows[several]
    together = pl.DataFrame(
        {"at": rows, "pair": staged.pair[rows], "label": pl.Series(staged.labels[rows]).fill_nan(None)}
    )
    labels = pl.col("label").drop_nulls().n_unique().over("pair")
    unlabelled_too = pl.col("label").is_null() & (labels > 0)
    repeated = pl.col("at") != pl.col("at").min().over("pair", "label")
    judged = together.select("at", duplicate=repeated | unlabelled_too, contradictory=labels > 1)
    staged.keep_out(judged.filter("contradictory")["at"].to_numpy(), "contradictory")
    staged.keep_out(judged.filter("duplicate")["at"].to_numpy(), "duplicate")
