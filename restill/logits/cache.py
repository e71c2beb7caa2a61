"""This machine's copy of a teacher's shards, safe for several processes and for a kill at any moment.

Two files of fixed-width rows, `digests.bin` and `embeddings.f32`, hold the shards one after another. The
journal, `shards.jsonl`, says which. Its lines are written last: rows beyond them were left by a kill.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restill.errors import IntegrityError, RestillError
from restill.logits.items import DIGEST_BYTES, Digests
from restill.logits.shards import NO_TOKENS, Embeddings, Shard, Tokens

_LOCK_SECONDS = 120.0
_FLOAT_BYTES = 4


class _Entry(BaseModel):
    """One line of the journal: the next `rows` rows are those of the shard `name`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    etag: str = ""  # of the object it was read from
    rows: int = Field(ge=1)
    dimension: int = Field(ge=1)
    real_tokens: int = Field(ge=0)
    padded_tokens: int = Field(ge=0)


@dataclass(frozen=True)
class Tally:
    """Some shards in numbers."""

    shards: int
    items: int
    tokens: Tokens


@dataclass(frozen=True)
class Index:
    """Where the embedding of a digest is; embeddings are mapped from disk, only digests are in memory."""

    digests: Digests  # sorted, distinct
    rows: npt.NDArray[np.int64]
    embeddings: Embeddings

    def positions(self, digests: Digests) -> npt.NDArray[np.int64]:
        """Return each digest's row in `embeddings`, -1 where there is none."""
        if not len(self.digests):
            return np.full(len(digests), -1, np.int64)
        places = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        return np.where(self.digests[places] == digests, self.rows[places], -1)


class ShardCache:
    """The cached shards of one teacher."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when first needed."""
        self._folder = folder
        self._journal = folder / "shards.jsonl"
        self._digests = folder / "digests.bin"
        self._embeddings = folder / "embeddings.f32"

    def names(self) -> dict[str, str]:
        """Return the shards that are here: name → ETag of the object that each was read from."""
        with self._locked():
            return {entry.name: entry.etag for entry in self._mend()}

    def clear(self) -> None:
        """Forget all shards."""
        with self._locked():
            self._remove()

    def tally(self, names: Collection[str]) -> Tally:
        """Return the numbers of those of the named shards that are here."""
        with self._locked():
            found = [entry for entry in self._mend() if entry.name in names]
        return Tally(
            shards=len(found),
            items=sum(entry.rows for entry in found),
            tokens=sum((Tokens(entry.real_tokens, entry.padded_tokens) for entry in found), NO_TOKENS),
        )

    def append(self, shards: Sequence[Shard], etags: Mapping[str, str]) -> None:
        """Add the shards that are not here yet.

        Args:
            shards: what was read.
            etags: name → ETag of the objects.

        Raises: IntegrityError if one is of another width than those before it.
        """
        with self._locked():
            entries = self._mend()
            present = {entry.name for entry in entries}
            new = [shard for shard in shards if shard.name not in present]
            dimension = next((entry.dimension for entry in entries), None)
            lines = []
            with self._digests.open("ab") as digests, self._embeddings.open("ab") as embeddings:
                for shard in new:
                    rows, width = shard.embeddings.shape
                    dimension = dimension or width
                    if width != dimension:
                        raise IntegrityError(
                            f"The shard of teacher scores {shard.name} has embeddings of width {width}, "
                            f"others {dimension}.",
                            hint="Delete that object from the teacher's folder in the object store.",
                        )
                    digests.write(shard.digests.tobytes())
                    embeddings.write(np.ascontiguousarray(shard.embeddings, "<f4").tobytes())
                    entry = _Entry(
                        name=shard.name,
                        etag=etags[shard.name],
                        rows=rows,
                        dimension=width,
                        real_tokens=shard.tokens.real,
                        padded_tokens=shard.tokens.padded,
                    )
                    lines.append(entry.model_dump_json() + "\n")
                for file in (digests, embeddings):
                    file.flush()
                    os.fsync(file.fileno())
            with self._journal.open("a", encoding="utf-8") as journal:
                journal.write("".join(lines))
                journal.flush()
                os.fsync(journal.fileno())

    def open_index(self, live: Collection[str]) -> Index:
        """Return an index over the shards named `live`, as far as they are here.

        Where several shards hold a digest the first by name counts, whatever order they came in.
        """
        with self._locked():
            entries = self._mend()
            total = sum(entry.rows for entry in entries)
            if not total:
                return Index(np.empty(0, f"S{DIGEST_BYTES}"), np.empty(0, np.int64), np.empty((0, 0), np.float32))
            digests = np.fromfile(self._digests, f"S{DIGEST_BYTES}", total)
            shape = (total, entries[0].dimension)
            embeddings = np.memmap(self._embeddings, "<f4", "r", shape=shape)
        places: dict[str, tuple[int, int]] = {}
        start = 0
        for entry in entries:
            places[entry.name] = (start, start + entry.rows)
            start += entry.rows
        kept = [np.arange(*places[name], dtype=np.int64) for name in sorted(places.keys() & set(live))]
        rows = np.concatenate(kept) if kept else np.empty(0, np.int64)
        distinct, first = np.unique(digests[rows], return_index=True)
        return Index(distinct, rows[first], embeddings)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / "lock", timeout=_LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout as error:
            raise RestillError(
                f"Another process has held the cache {self._folder} for {_LOCK_SECONDS:.0f} seconds.",
                hint="Wait for it or end it; a process that died does not hold it.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _mend(self) -> list[_Entry]:
        """Return the journal, less what a killed process left; start anew if committed rows are gone."""
        text = self._journal.read_bytes() if self._journal.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        try:
            entries = [_Entry.model_validate_json(line) for line in whole.splitlines()]
        except ValidationError:
            entries = []
            whole = b""
        total = sum(entry.rows for entry in entries)
        widths = {entry.dimension for entry in entries}
        sizes: Mapping[Path, int] = {
            self._digests: total * DIGEST_BYTES,
            self._embeddings: total * max(widths, default=0) * _FLOAT_BYTES,
        }
        found = {path: path.stat().st_size if path.exists() else 0 for path in sizes}
        if len(widths) > 1 or any(found[path] < size for path, size in sizes.items()) or (text and not whole):
            self._remove()
            return []
        if whole != text:
            os.truncate(self._journal, len(whole))
        for path, size in sizes.items():
            if found[path] > size:
                os.truncate(path, size)
        return entries

    def _remove(self) -> None:
        # Removed, not emptied: another process may still have the old files mapped.
        for path in (self._journal, self._digests, self._embeddings):
            path.unlink(missing_ok=True)
