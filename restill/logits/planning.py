"""What a data set still lacks of a teacher's scores, found by DuckDB: memory is bounded, and spills to disk."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from restill.errors import RestillError
from restill.logits import jobs
from restill.logits.items import DIGEST_BYTES, Digests, shard_name
from restill.logits.jobs import COLUMNS, ScoringPlan
from restill.logits.store import LogitsStore
from restill.settings.teaching import TeacherKind
from restill.snapshots import Snapshot
from restill.threads import in_threads

_MEMORY = "512MB"
_BATCH_ROWS = 2048

# Every occurrence of every item. The digests are those of `items.item_digest`, and must stay so.
_ITEMS: dict[TeacherKind, str] = {
    "bi-encoder": """
        SELECT text, unhex(left(sha256(text), 32)) AS digest, strlen(text) AS bytes
        FROM (SELECT text_a AS text FROM pairs UNION ALL SELECT text_b FROM pairs)
    """,
    "cross-encoder": """
        SELECT text_a, text_b, unhex(left(sha256(sha256(text_a) || sha256(text_b)), 32)) AS digest,
            strlen(text_a) + strlen(text_b) AS bytes
        FROM pairs
    """,
}


@dataclass(frozen=True)
class Need:
    """What a data set needs of a teacher."""

    missing: int  # distinct items without a score
    distinct: int  # items in all
    kind: TeacherKind

    @property
    def what(self) -> str:
        """Return what an item is, in the plural."""
        return "sentences" if self.kind == "bi-encoder" else "pairs"


def count_missing(snapshot: Snapshot, logits: LogitsStore) -> int:
    """Return how many distinct items of a data set have no stored score.

    Raises: what `find_need` raises.
    """
    return find_need(snapshot, logits).missing


def find_need(snapshot: Snapshot, logits: LogitsStore) -> Need:
    """Return how many distinct items a data set has, and how many of them have no stored score.

    Raises: RestillError if the disk is full; what `logits.refresh` raises.
    """
    with _opened(snapshot, logits) as connection:
        row = connection.execute(
            f"SELECT count(*), count(*) FILTER (WHERE known.digest IS NULL) "  # noqa: S608 - no part is from outside
            f"FROM (SELECT DISTINCT digest FROM ({_ITEMS[logits.kind]})) LEFT JOIN known USING (digest)"
        ).fetchone()
        return Need(missing=row[1], distinct=row[0], kind=logits.kind)


def make_plan(snapshot: Snapshot, logits: LogitsStore, *, shard_items: int) -> ScoringPlan | None:
    """Store the texts of what is missing, in shards, and then the plan that names them; None if nothing is missing.

    Short items come first, so that a shard holds items of like length. Planning the same again finds the same plan,
    and after a run that was killed the shards that it left.

    Args:
        snapshot: the data version.
        logits: the teacher's scores.
        shard_items: items a shard.

    Raises: RestillError if the disk is full; StorageUnreachable, IntegrityError.
    """

    def store_one(part: pa.Table) -> tuple[str, int]:
        name = shard_name(_digests(part))
        jobs.store_work(logits.objects, logits.fingerprint, logits.kind, name, part)
        return name, part.num_rows

    with _opened(snapshot, logits) as connection:
        columns = ", ".join(COLUMNS[logits.kind])
        reader = connection.sql(
            f"SELECT {columns}, digest FROM (SELECT DISTINCT {columns}, digest, bytes FROM "  # noqa: S608 - as above
            f"({_ITEMS[logits.kind]}) ANTI JOIN known USING (digest)) ORDER BY bytes, digest"
        ).to_arrow_reader(_BATCH_ROWS)
        shards = list(in_threads(_parts(reader, shard_items), store_one))
    return jobs.store_plan(logits.objects, logits.fingerprint, logits.kind, shards) if shards else None


def _parts(reader: pa.RecordBatchReader, rows: int) -> Iterator[pa.Table]:
    """Yield the rows in tables of `rows` rows; the last one may be shorter."""
    held = reader.schema.empty_table()
    for batch in reader:
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        while held.num_rows >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held.num_rows:
        yield held


def _digests(part: pa.Table) -> Digests:
    return np.frombuffer(b"".join(part["digest"].to_pylist()), f"S{DIGEST_BYTES}")


@contextlib.contextmanager
def _opened(snapshot: Snapshot, logits: LogitsStore) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a database with the data set's `pairs` and the `known` digests."""
    digests = logits.known_digests()
    buffers = [None, pa.py_buffer(np.ascontiguousarray(digests))]
    known = pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIGEST_BYTES), len(digests), buffers)
    logits.cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=logits.cache_dir, prefix="planning-") as spill:
        config = {
            "threads": os.cpu_count() or 1,
            "memory_limit": _MEMORY,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(config=config) as connection:
            files = [str(path) for path in snapshot.files()]
            try:
                if files:
                    connection.read_parquet(files, hive_partitioning=False).create_view("pairs")
                else:
                    connection.execute("CREATE TABLE pairs (text_a VARCHAR, text_b VARCHAR)")
                connection.register("known", pa.table({"digest": known}))
                yield connection
            except duckdb.Error as error:
                raise RestillError(
                    f"What is missing of the teacher's scores could not be found out: {error}",
                    hint=f"Make room in {logits.cache_dir}, then run again; nothing was lost.",
                ) from error
