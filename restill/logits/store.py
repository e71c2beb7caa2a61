"""The scores of one teacher on S3, read through a local cache. `worker.work` writes them; here they are found."""

import itertools
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from restill import teachers
from restill.errors import RestillError
from restill.logits import places
from restill.logits.cache import Index, ShardCache, Tally
from restill.logits.items import Digests, Item, as_array, item_digest, pair_digest, sentence_digest
from restill.logits.shards import Embeddings, Shard, read_shard
from restill.settings import Settings
from restill.settings.teaching import TeacherKind
from restill.storage.objects import ObjectNotFound, ObjectStore

_DOWNLOADS = 8
_PAIRS_AT_ONCE = 8192


class LogitsStore:
    """The scores of one teacher: shards on S3, and a local cache that several processes may share.

    A bi-encoder's item is a sentence and its score a vector; a cross-encoder's is an ordered pair and one number.

    Attributes:
        fingerprint: of the teacher.
        kind: of the teacher.
        objects: the object store that holds the shards.
        cache_dir: this teacher's folder on this machine.
    """

    def __init__(self, store: ObjectStore, fingerprint: str, cache_dir: Path, kind: TeacherKind = "bi-encoder") -> None:
        """Name a teacher's shards; nothing is read yet.

        Args:
            store: where the shards are.
            fingerprint: of the teacher; scores of different teachers never meet.
            cache_dir: folder on this machine for all teachers' caches.
            kind: of the teacher: what its items are.
        """
        self.fingerprint = fingerprint
        self.kind = kind
        self.objects = store
        self.cache_dir = cache_dir / fingerprint
        self._cache = ShardCache(self.cache_dir)
        self._live: set[str] | None = None
        self._index: Index | None = None

    def missing(self, items: Iterable[Item]) -> list[Item]:
        """Return the distinct items without a stored score, ordered by digest; asks S3 what is new.

        For items in memory; of a whole data set `planning.count_missing` tells how many.

        Raises: IntegrityError naming the key of a damaged shard.
        """
        self.refresh()
        wanted = {item_digest(item): item for item in items}
        digests = sorted(wanted)
        positions = self._open_index().positions(as_array(digests))
        return [wanted[digest] for digest, position in zip(digests, positions, strict=True) if position < 0]

    def known_digests(self) -> Digests:
        """Return the digests of all items with a stored score, sorted, ``[n]``; asks S3 what is new.

        Raises: IntegrityError naming the key of a damaged shard.
        """
        self.refresh()
        return self._open_index().digests

    def lookup(self, digests_or_items: Sequence[bytes] | Sequence[Item]) -> Embeddings:
        """Return stored embeddings, float32 ``[n, dimension]``, in the order given.

        Raises: RestillError saying how many are not stored.
        """
        digests = [item if isinstance(item, bytes) else item_digest(item) for item in digests_or_items]
        embeddings, rows = self.locate(as_array(digests))
        return np.array(embeddings[rows])

    def locate(self, digests: Digests) -> tuple[Embeddings, npt.NDArray[np.int64]]:
        """Return all embeddings, mapped from disk, float32 ``[stored, dimension]``, and each digest's row: ``[n]``.

        Raises: RestillError saying how many are not stored.
        """
        if self._live is None or (self._open_index().positions(digests) < 0).any():
            self.refresh()  # another process may have scored them since
        index = self._open_index()
        positions = index.positions(digests)
        if (lacking := positions < 0).any():
            what = "sentences" if self.kind == "bi-encoder" else "pairs"
            raise RestillError(
                f"{len(np.unique(digests[lacking]))} of {len(np.unique(digests))} {what} have no stored score of the "
                f"teacher {self.fingerprint[:12]}.",
                hint="Score them first: restill score.",
            )
        return index.embeddings, positions

    def scores(self, text_a: Sequence[str], text_b: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the teacher's score of each pair, float32 ``[n]``: a bi-encoder's cosine, a cross-encoder's logit.

        Raises: RestillError saying how many are not stored; ValueError if the lengths differ.
        """
        if self.kind == "bi-encoder":
            return self.cosines(text_a, text_b)
        pairs = [pair_digest(*pair) for pair in zip(text_a, text_b, strict=True)]
        embeddings, rows = self.locate(as_array(pairs))
        return np.array(embeddings[rows, 0]) if pairs else np.empty(0, np.float32)

    def cosines(self, text_a: Sequence[str], text_b: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a bi-encoder's cosine of each pair, float32 ``[n]`` in [-1, 1]; 0 where an embedding is zero.

        Raises: RestillError saying how many sentences are not stored; ValueError if the lengths differ.
        """
        if len(text_a) != len(text_b):
            raise ValueError(f"A pair has two sentences. Received: {len(text_a)} first and {len(text_b)} second ones.")
        embeddings, rows = self.locate(as_array([sentence_digest(text) for text in (*text_a, *text_b)]))
        left, right = rows[: len(text_a)], rows[len(text_a) :]
        cosines = np.zeros(len(left), np.float32)
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            a, b = embeddings[left[part]], embeddings[right[part]]
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosines[part] = np.einsum("nd,nd->n", a, b) / np.where(norms > 0, norms, 1)
        return np.clip(cosines, -1, 1)

    def tally(self, shards: Collection[str]) -> Tally:
        """Return those of the named shards that are stored, in numbers; asks S3 what is new.

        Raises: IntegrityError naming the key of a damaged shard.
        """
        self.refresh()
        return self._cache.tally((self._live or set()) & set(shards))

    def refresh(self) -> None:
        """Bring the cache up to what S3 holds now; only shards it lacks are downloaded.

        A shard that was deleted on S3 and made anew is another one: then all that is cached is read again.

        Raises: IntegrityError naming the key of a damaged shard.
        """
        listed = places.stored_shards(self.objects, self.fingerprint)
        cached = self._cache.names()
        if any(cached[name] != listed[name] for name in cached.keys() & listed.keys()):
            self._cache.clear()
            cached, self._index = {}, None
        wanted = iter(sorted(listed.keys() - cached.keys()))
        with ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="logits") as pool:
            while names := list(itertools.islice(wanted, 2 * _DOWNLOADS)):
                found = [shard for shard in pool.map(self._download, names) if shard is not None]
                self._cache.append(found, listed)
        if listed.keys() != self._live or self._index is None:
            self._live = set(listed)
            self._index = None

    def _open_index(self) -> Index:
        if self._index is None:
            # Only what S3 lists counts: a shard deleted there would be missing on every other machine.
            self._index = self._cache.open_index(self._live or set())
        return self._index

    def _download(self, name: str) -> Shard | None:
        key = places.shard_key(self.fingerprint, name)
        try:
            body = self.objects.get(key)
        except ObjectNotFound:  # deleted since it was listed
            return None
        return read_shard(name, key, body, self.fingerprint)


def open_store(settings: Settings, store: ObjectStore) -> LogitsStore:
    """Return the store of the configured teacher's scores.

    Raises: TeacherError if the teacher's files cannot be read; IntegrityError if they are not the published ones.
    """
    teacher = teachers.open_teacher(settings.teacher)
    return LogitsStore(
        store, teacher.fingerprint(cache=settings.digest_cache), settings.logits_cache, kind=teacher.kind
    )
