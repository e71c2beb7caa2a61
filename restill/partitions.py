"""Staged rows written where they belong: accepted ones into a partition, the others into the quarantine."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from restill import history
from restill import keys as hashing
from restill.figures import PairFigures
from restill.files import write_whole
from restill.history import VOCABULARY_ROWS, Vocabulary
from restill.keys import Keys
from restill.pairs import NAMES, PAIR_SCHEMA, RULES_VERSION, SPLITS
from restill.snapshots import BATCH_FILE, PARQUET_FILE
from restill.splits import TEST, Splits
from restill.staging import CAME, Staged, as_it_came
from restill.threads import in_threads

ROW_GROUP = 100_000
QUARANTINE = "quarantine.parquet"
QUARANTINE_GROUP = 50_000
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("text_a", "text_b", *CAME)),
    ]
)
_TOLD = ("text_a", "text_b", "label", "source")


@dataclass(frozen=True)
class Distributed:
    """What was written, and what was counted on the way."""

    figures: PairFigures  # of the accepted rows
    vocabulary: Vocabulary
    violations: Mapping[str, int]  # what a stored row must be, and how many are not: 0 each, unless there is a fault


@dataclass
class _Checks:
    """Counts of rows that break what every stored row must keep: a net under the row rules and the split."""

    broken: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pa.Table, max_characters: int | None) -> "_Checks":
        frame = pl.DataFrame(pl.from_arrow(rows))
        lengths = pl.col("text_a", "text_b").str.len_chars()
        checks = {
            "values missing": pl.any_horizontal(
                pl.col("pair_id", "text_a", "text_b", "language", "group", "split", "row").is_null()
            ),
            "label outside 0 to 1": ~pl.col("label").is_between(0, 1),
            "empty text": pl.min_horizontal(lengths) < 1,
            "text too long": pl.max_horizontal(lengths) > max_characters if max_characters else pl.lit(False),
            "unknown split": ~pl.col("split").is_in(SPLITS),
            "malformed id": ~(
                pl.col("pair_id").str.contains("^[0-9a-f]{32}$") & pl.col("group").str.contains("^[0-9a-f]{16}$")
            ),
        }
        found = frame.select(**{name: check.fill_null(False).sum() for name, check in checks.items()})
        return cls(dict(zip(checks, found.row(0), strict=True)))

    def add(self, broken: Mapping[str, int]) -> None:
        for name, count in broken.items():
            self.broken[name] = self.broken.get(name, 0) + int(count)


@dataclass(frozen=True)
class _Separated:
    """One chunk, its rows told apart."""

    accepted: pa.Table  # of PAIR_SCHEMA
    kept_out: pa.Table  # of QUARANTINE_SCHEMA
    figures: PairFigures
    vocabulary: Vocabulary
    checks: _Checks
    done: int  # rows of the file up to its end


def distribute(
    staged: Staged,
    splits: Splits,
    groups: Keys,
    folder: Path,
    *,
    max_characters: int | None,
    unseen: NDArray[np.bool_] | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Distributed:
    """Write `part-0.parquet` with the accepted rows and `quarantine.parquet` with the others into `folder`.

    Rows stay in the file's order, and the bytes depend on the rows alone: no clock, no path, fixed Parquet options.

    Args:
        staged: every row has its reason, or none.
        splits: places in SPLITS, ``[rows]``; only looked at where a row is accepted.
        groups: ``[rows]``, likewise.
        folder: is there.
        max_characters: longest sentence that may be stored; None: any.
        unseen: by code point, which characters the data set has never shown; None: there is none yet.
        progress: called with rows done and rows in all.
    """
    accepted = staged.accepted
    before: NDArray[np.int64] = np.cumsum(accepted) - accepted  # accepted rows that come earlier
    stride = max(1, -(-int(accepted.sum()) // VOCABULARY_ROWS))
    figures, vocabulary, checks = PairFigures(), Vocabulary(), _Checks()

    def separated(chunk: tuple[slice, pl.DataFrame]) -> _Separated:
        place, frame = chunk
        fits = accepted[place]
        rows = frame.filter(pl.Series(fits)).with_columns(
            group=hashing.hexadecimal(groups[place][fits]),
            split=pl.Series(np.array(SPLITS)[splits[place][fits]], dtype=pl.String),
        )
        names = pl.Series("reason", np.array(NAMES)[staged.reason[place][~fits]], dtype=pl.String)
        came = as_it_came(frame.filter(pl.Series(~fits))).with_columns(names)
        # What was removed on request is not kept again in another place.
        is_gone = pl.col("reason") == "forgotten"
        came = came.with_columns(pl.when(~is_gone).then(pl.col(name)).alias(name) for name in _TOLD)
        texts = rows.select("text_a", "text_b")
        words_from = texts[-int(before[place.start]) % stride :: stride]
        stored = rows.select(PAIR_SCHEMA.names).to_arrow().cast(PAIR_SCHEMA)
        return _Separated(
            stored,
            came.select(QUARANTINE_SCHEMA.names).to_arrow().cast(QUARANTINE_SCHEMA),
            history.pair_figures(rows),
            Vocabulary.of(texts, words_from=words_from, unseen=unseen),
            _Checks.of(stored, max_characters),
            place.stop,
        )

    with ExitStack() as stack:
        stored = stack.enter_context(stored_rows(folder / PARQUET_FILE))
        kept_out = _Rows(stack, folder / QUARANTINE, QUARANTINE_SCHEMA, QUARANTINE_GROUP, dictionary=["reason", *CAME])
        for part in in_threads(staged.chunks(), separated):
            stored.write(part.accepted)
            kept_out.write(part.kept_out)
            figures += part.figures
            vocabulary += part.vocabulary
            checks.add(part.checks.broken)
            progress(part.done, len(staged))
        kept_out.finish()
    pairs = np.sort(staged.pair[accepted])
    checks.add(
        {
            "pair stored twice": int((pairs[1:] == pairs[:-1]).sum()),
            "row lost": abs(len(staged) - stored.written - kept_out.written),
        }
    )
    return Distributed(figures, vocabulary, checks.broken)


def write_facts(
    folder: Path,
    batch_id: str,
    figures: PairFigures,
    splits: Mapping[str, int],
    test_sha256: str,
    **others: Any,
) -> str:
    """Write `batch.json` beside the partition's Parquet file: what `restill.snapshots` says of a batch.

    Args:
        test_sha256: of the pairs of the batch's test split; empty if it has none.
        others: more facts; they must not depend on clock or path.
    Returns: the SHA-256 (hex) of the Parquet file.
    """
    digest = file_digest(folder / PARQUET_FILE)
    facts = {
        "batch": batch_id,
        "rows": figures.rows,
        "splits": dict(splits),
        "labels": {
            "negative": figures.labelled - figures.positive,
            "positive": figures.positive,
            "unlabelled": figures.rows - figures.labelled,
        },
        "parquet_sha256": digest,
        "test_sha256": test_sha256,
        "row_rules_version": RULES_VERSION,
        **others,
    }
    write_whole(folder / BATCH_FILE, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    return digest


def digest_of_test(pair: Keys, labels: np.ndarray[Any, np.dtype[np.float32]], splits: Splits) -> str:
    """Return the SHA-256 (hex) of the test pairs and their labels, whatever their order; empty if there are none."""
    rows = np.flatnonzero(splits == TEST)
    if not len(rows):
        return ""
    rows = rows[np.argsort(pair[rows])]
    return hashlib.sha256(pair[rows].astype("<u8").tobytes() + labels[rows].astype("<f4").tobytes()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file.

    Raises: OSError.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def stored_rows(path: Path) -> Iterator["_Rows"]:
    """Give a file of stored pairs to write tables of PAIR_SCHEMA to, in the order and form of every partition."""
    with ExitStack() as stack:
        rows = _Rows(stack, path, PAIR_SCHEMA, ROW_GROUP, dictionary=["source", "language", "split"])
        yield rows
        rows.finish()


class _Rows:
    """A Parquet file written in row groups of one size, whatever sizes come."""

    def __init__(self, stack: ExitStack, path: Path, schema: pa.Schema, group: int, *, dictionary: list[str]) -> None:
        self.written = 0
        self._group = group
        self._waiting = schema.empty_table()
        self._writer = stack.enter_context(
            pq.ParquetWriter(
                path,
                schema,
                version="2.6",
                compression="zstd",
                compression_level=3,
                use_dictionary=dictionary,
                store_schema=False,
            )
        )

    def write(self, rows: pa.Table) -> None:
        self._waiting = pa.concat_tables([self._waiting, rows])
        while self._waiting.num_rows >= self._group:
            self._flush(self._group)

    def finish(self) -> None:
        if self._waiting.num_rows:
            self._flush(self._waiting.num_rows)

    def _flush(self, rows: int) -> None:
        # In one chunk: where one ends depends on the machine, and Parquet's pages would follow.
        self._writer.write_table(self._waiting.slice(0, rows).combine_chunks(), row_group_size=self._group)
        self._waiting = self._waiting.slice(rows)
        self.written += rows
