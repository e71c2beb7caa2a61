"""What the data set already has, so that a new batch can be held against it without reading the data set again.

A DuckDB file under `.restill/cache/`, derived from the partitions and made again when it does not fit them: a row a
sentence (where it belongs), a row a pair (its label), the figures of each batch, and the vocabulary. Looking a batch up
costs one scan over two columns of numbers, about 6 ms per million stored sentences. Callers hold the data set's lock.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from restill import keys as hashing
from restill.errors import RestillError
from restill.figures import POSITIVE_FROM, PairFigures
from restill.keys import Keys
from restill.pairs import SPLITS
from restill.snapshots import Snapshot
from restill.splits import Known

FORMAT = 2  # part of the file's name: raise it when the tables change
CODE_POINTS = 0x110000
VOCABULARY_ROWS = 100_000  # of each batch that words are taken from: enough to know a language by
_WORDS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]|[\p{L}\p{M}]+"  # scripts without spaces: by the character
_MEMORY = "256MB"
_WORD_COUNTS = {"word": pl.UInt64, "count": pl.UInt32}

_TABLES = """
CREATE TABLE batches (batch VARCHAR PRIMARY KEY, digest VARCHAR NOT NULL, figures VARCHAR NOT NULL);
CREATE TABLE sentences (sentence UBIGINT NOT NULL, split TINYINT NOT NULL, grp UBIGINT NOT NULL);
CREATE TABLE pairs (pair UBIGINT NOT NULL, label FLOAT, swapped BOOLEAN NOT NULL);
CREATE TABLE characters (code_point UINTEGER NOT NULL);
CREATE TABLE words (word UBIGINT NOT NULL);
"""

_INSERTS = (
    "INSERT INTO sentences SELECT sentence, max(split), min(grp) FROM sides GROUP BY sentence",
    "INSERT INTO pairs SELECT * FROM new_pairs",
    "INSERT INTO words SELECT * FROM new_words",
    "INSERT INTO characters SELECT * FROM new_characters",
)


@dataclass
class Vocabulary:
    """The characters of a set of pairs, and its words, each a run of letters or one Han, kana or Hangul character."""

    characters: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(CODE_POINTS, np.bool_))  # which occur
    total: int = 0  # characters, occurrences counted
    new: int = 0  # of those, the ones that the data set has never shown
    words: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_WORD_COUNTS))  # one row a word and chunk

    @classmethod
    def of(cls, texts: pl.DataFrame, *, words_from: pl.DataFrame, unseen: NDArray[np.bool_] | None) -> "Vocabulary":
        """Return the vocabulary of a chunk.

        Args:
            texts: columns of text.
            words_from: the part of it that words are taken from: finding them takes the most time.
            unseen: by code point, which characters count as new; None: none.
        """
        found = cls()
        for column in texts.iter_columns():
            points = _code_points(column)
            found.characters[points] = True
            found.total += len(points)
            if unseen is not None:
                found.new += int(unseen[points].sum())
        words = pl.concat([words_of(words_from[name]) for name in words_from.columns])
        counts = words.explode().drop_nulls().rename("word").value_counts(name="count")
        word = pl.Series("word", hashing.text_keys(counts["word"]), pl.UInt64)
        found.words = counts.with_columns(word).cast({"count": pl.UInt32})
        return found

    def __iadd__(self, other: "Vocabulary") -> Self:
        """Take in what other pairs have."""
        self.characters |= other.characters
        self.total += other.total
        self.new += other.new
        self.words = pl.concat([self.words, other.words])
        return self

    @property
    def new_characters(self) -> float:
        """Return the share of characters that are new, occurrences counted."""
        return self.new / self.total if self.total else 0.0


@dataclass(frozen=True)
class Stored:
    """What the data set has of some pairs, in their order."""

    found: NDArray[np.bool_]
    labels: NDArray[np.float32]  # NaN: unlabelled, or not found
    swapped: NDArray[np.bool_]  # its first sentence sorts after its second


@dataclass(frozen=True)
class Entry:
    """One batch as the history keeps it: arrays over its pairs, in one order."""

    batch: str
    digest: str  # SHA-256 of its Parquet file
    figures: PairFigures
    vocabulary: Vocabulary
    key_a: Keys
    key_b: Keys
    splits: NDArray[np.int8]
    groups: Keys
    pair: Keys
    labels: NDArray[np.float32]
    swapped: NDArray[np.bool_]
    known: Known | None = None  # its sentences that the history has; None: not looked up yet


class History:
    """The data set as far as its batches were added."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    @cached_property
    def _figures(self) -> PairFigures | None:
        rows = self._connection.execute("SELECT figures FROM batches").fetchall()
        return sum((PairFigures(**json.loads(row[0])) for row in rows), PairFigures()) if rows else None

    @property
    def figures(self) -> PairFigures | None:
        """Return the data set in a few numbers; None if there is none yet."""
        return self._figures

    def batches(self) -> frozenset[tuple[str, str]]:
        """Return the batches that were added, each with the digest of its file."""
        rows = self._connection.execute("SELECT batch, digest FROM batches").fetchall()
        return frozenset((row[0], row[1]) for row in rows)

    def known(self, ascending: Keys) -> Known:
        """Return which of these sentences the data set has, and where they belong."""
        # A sentence has a row for each higher split that a file put it into: the test split counts most.
        found = self._join(
            "SELECT sentence, max(split) AS split, arg_max(grp, split) AS grp FROM sentences "
            "JOIN asked ON sentence = key GROUP BY sentence ORDER BY sentence",
            ascending,
        )
        return Known(
            found["sentence"].to_numpy(),
            found["split"].to_numpy().astype(np.int8, copy=False),
            found["grp"].to_numpy(),
        )

    def stored(self, pairs: Keys) -> Stored:
        """Return what the data set has of these pairs. A pair with a label and without one counts as labelled."""
        result = Stored(
            np.zeros(len(pairs), np.bool_), np.full(len(pairs), np.nan, np.float32), np.zeros(len(pairs), np.bool_)
        )
        found = self._join(
            "SELECT place, max(label) AS label, arg_max(swapped, coalesce(label, -1)) AS swapped "
            "FROM pairs JOIN asked ON pair = key GROUP BY place",
            pairs,
        )
        at = found["place"].to_numpy()
        result.found[at] = True
        result.labels[at] = found["label"].to_pandas().to_numpy(np.float32, na_value=np.nan) if len(at) else []
        result.swapped[at] = found["swapped"].to_numpy()
        return result

    def new_words(self, vocabulary: Vocabulary) -> float:
        """Return the share of words, occurrences counted, that the data set has never shown."""
        counts = vocabulary.words.group_by("word").agg(pl.col("count").sum())
        total = int(counts["count"].sum())
        unseen = self.unseen_words(counts["word"].to_numpy())
        return int(counts["count"].to_numpy()[unseen].sum()) / total if total else 0.0

    def unseen_words(self, words: Keys) -> NDArray[np.bool_]:
        """Return which of these words the data set has never shown."""
        found = self._join("SELECT place FROM asked JOIN words ON key = word", words)
        unseen = np.ones(len(words), np.bool_)
        unseen[found["place"].to_numpy()] = False
        return unseen

    def unseen_characters(self) -> NDArray[np.bool_]:
        """Return, by code point, which characters the data set has never shown."""
        unseen = np.ones(CODE_POINTS, np.bool_)
        found = self._connection.execute("SELECT code_point FROM characters").fetchnumpy()["code_point"]
        unseen[np.asarray(found, np.int64)] = False
        return unseen

    def add(self, entry: Entry) -> None:
        """Add one batch, whole or not at all.

        Raises: duckdb.Error, for example on a full disk.
        """
        connection = self._connection
        known = entry.known
        if known is None:
            known = self.known(np.unique(np.concatenate([entry.key_a, entry.key_b])))
        words = entry.vocabulary.words["word"].unique().to_numpy()
        characters = entry.vocabulary.characters & self.unseen_characters()
        labels = pa.array(entry.labels, pa.float32(), mask=np.isnan(entry.labels))
        tables = {
            "sides": pa.concat_tables(_new_sentences(entry, side, known) for side in (entry.key_a, entry.key_b)),
            "new_pairs": pa.table({"pair": entry.pair, "label": labels, "swapped": entry.swapped}),
            "new_words": pa.table({"word": words[self.unseen_words(words)]}),
            "new_characters": pa.table({"code_point": np.flatnonzero(characters)}),
        }
        with self._registered(**tables):
            connection.execute("BEGIN")
            try:
                for statement in _INSERTS:
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO batches VALUES (?, ?, ?)",
                    [entry.batch, entry.digest, json.dumps(asdict(entry.figures))],
                )
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        self.__dict__.pop("_figures", None)

    def _join(self, query: str, asked: Keys) -> pa.Table:
        table = pa.table({"key": asked, "place": np.arange(len(asked))})
        with self._registered(asked=table):
            return self._connection.sql(query).to_arrow_table()

    @contextlib.contextmanager
    def _registered(self, **tables: pa.Table) -> Iterator[None]:
        for name, table in tables.items():
            self._connection.register(name, table)
        try:
            yield
        finally:
            for name in tables:
                self._connection.unregister(name)


@contextlib.contextmanager
def opened(
    folder: Path, snapshot: Snapshot | None, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[History]:
    """Open the history of a data version, brought up to it.

    Args:
        folder: where the file is kept.
        snapshot: the version; None if there is no data set yet.
        progress: called with batches read and batches to be read, when the history has to be caught up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"history-{FORMAT}.duckdb"
    wanted = _contents(snapshot) if snapshot else frozenset[tuple[str, str]]()
    with contextlib.ExitStack() as stack:
        history = _open(path, wanted, stack)
        missing = sorted(wanted - history.batches())
        for done, (batch, _) in enumerate(missing):
            if snapshot is not None:
                try:
                    history.add(read_entry(snapshot, batch))
                except duckdb.Error as error:
                    raise RestillError(
                        f"The index of stored pairs in {folder} could not be written: {error}",
                        hint="Make room there, then run the same command again. The data set is as before.",
                    ) from error
                progress(done + 1, len(missing))
        yield history


def _contents(snapshot: Snapshot) -> frozenset[tuple[str, str]]:
    return frozenset(zip(snapshot.batches, snapshot.digests, strict=True))


def forget_file(folder: Path) -> None:
    """Remove the file; the next one to open it makes it again."""
    for path in folder.glob("history-*.duckdb*"):
        path.unlink(missing_ok=True)


def _open(path: Path, wanted: frozenset[tuple[str, str]], stack: contextlib.ExitStack) -> History:
    """Return the history at `path` if all that it has is wanted, else an empty one."""
    try:
        history = History(_connect(path))
        if history.batches() <= wanted:
            stack.callback(history._connection.close)
            return history
        history._connection.close()  # the data set went back, or something was removed from it
    except duckdb.Error:
        pass  # damaged, or made by a newer DuckDB: it is a cache
    forget_file(path.parent)
    history = History(_connect(path))
    stack.callback(history._connection.close)
    return history


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    is_new = not path.exists()
    connection = duckdb.connect(
        path,
        config={
            "threads": os.cpu_count() or 1,
            "memory_limit": _MEMORY,
            "temp_directory": str(path.parent / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        if is_new:
            connection.execute(f"BEGIN; {_TABLES} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _new_sentences(entry: Entry, side: Keys, known: Known) -> pa.Table:
    """Return the sentences of one side that are new to the history, or in a higher split; repeats included."""
    arrays: dict[str, NDArray[Any]] = {"sentence": side, "split": entry.splits, "grp": entry.groups}
    if len(known.keys):
        at = np.minimum(np.searchsorted(known.keys, side), len(known.keys) - 1)
        is_new = (known.keys[at] != side) | (known.splits[at] < entry.splits)
        arrays = {name: values[is_new] for name, values in arrays.items()}
    return pa.table(arrays)


def read_entry(snapshot: Snapshot, batch: str) -> Entry:
    """Return a stored batch as the history keeps it, from its partition."""
    figures = PairFigures()
    vocabulary = Vocabulary()
    stride = max(1, -(-snapshot.batch_rows(batch) // VOCABULARY_ROWS))
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("key_a", "key_b", "splits", "groups", "pair", "labels", "swapped")
    }
    seen = 0
    for rows in snapshot.read(("pair_id", "text_a", "text_b", "label", "language", "group", "split"), batch=batch):
        frame = pl.DataFrame(pl.from_arrow(rows))
        figures += pair_figures(frame)
        texts = frame.select("text_a", "text_b")
        vocabulary += Vocabulary.of(texts, words_from=texts[-seen % stride :: stride], unseen=None)
        seen += frame.height
        for name, part in {
            "key_a": hashing.sentence_keys(frame["text_a"]),
            "key_b": hashing.sentence_keys(frame["text_b"]),
            "splits": frame["split"].replace_strict(SPLITS, range(len(SPLITS)), return_dtype=pl.Int8).to_numpy(),
            "groups": hashing.from_hexadecimal(frame["group"]),
            "pair": hashing.from_hexadecimal(frame["pair_id"]),
            "labels": frame["label"].fill_null(float("nan")).to_numpy(),
            "swapped": (frame["text_a"] > frame["text_b"]).to_numpy(),
        }.items():
            parts[name].append(part)
    arrays: dict[str, Any] = {name: np.concatenate(found) for name, found in parts.items()}
    digest = snapshot.digests[snapshot.batches.index(batch)]
    return Entry(batch, digest, figures, vocabulary, **arrays)


def words_of(texts: pl.Series) -> pl.Series:
    """Return the words of each text, a list of strings each, in lower case."""
    return texts.str.to_lowercase().str.extract_all(_WORDS)


def pair_figures(pairs: pl.DataFrame) -> PairFigures:
    """Return the figures of rows with `text_a`, `text_b`, `label` and `language`."""
    length = pairs.select(pl.col("text_a", "text_b").str.len_chars().cast(pl.Int64).sum()).sum_horizontal()[0]
    return PairFigures(
        rows=pairs.height,
        labelled=pairs["label"].count(),
        positive=int((pairs["label"] >= POSITIVE_FROM).sum()),
        characters=int(length),
        languages=dict(sorted(pairs["language"].value_counts().iter_rows())),
    )


def _code_points(texts: pl.Series) -> NDArray[np.uint32]:
    """Return the characters of all texts in a row, as code points."""
    column = texts.rechunk().to_arrow()
    array = column.cast(pa.large_string())
    ends = np.frombuffer(array.buffers()[1], np.int64, len(array) + 1, array.offset * 8)
    joined = str(memoryview(array.buffers()[2])[ends[0] : ends[-1]], "utf-8") if ends[-1] > ends[0] else ""
    return np.frombuffer(joined.encode("utf-32-le"), np.uint32)
