"""The embeddings of one teacher on S3, read through a local cache.

Layout: `logits/<teacher fingerprint>/shards/<sha256 of the shard's bytes>.parquet`. A shard is written once
and never changed; its name is its checksum.
"""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from restill.errors import IntegrityError, RestillError, TeacherError
from restill.logits.cache import Index, ShardCache
from restill.logits.shards import Embeddings, Shard, as_array, read_shard, sentence_digest, write_shard
from restill.storage.objects import ObjectStore

_DOWNLOADS = 8
_PAIRS_AT_ONCE = 8192
_SUFFIX = ".parquet"


class LogitsStore:
    """The embeddings of one teacher: shards on S3, and a local cache that several processes may share."""

    def __init__(self, store: ObjectStore, fingerprint: str, cache_dir: Path) -> None:
        """Name a teacher's shards; nothing is read yet.

        Args:
            store: where the shards are.
            fingerprint: of the teacher; embeddings of different teachers never meet.
            cache_dir: folder on this machine for all teachers' caches.
        """
        self.fingerprint = fingerprint
        self._store = store
        self._prefix = f"logits/{fingerprint}/shards/"
        self._cache = ShardCache(cache_dir / fingerprint)
        self._live: set[str] | None = None
        self._index: Index | None = None

    def missing(self, sentences: Iterable[str]) -> list[str]:
        """Return the distinct sentences without a stored embedding, ordered by digest; asks S3 what is new.

        Raises: IntegrityError naming the key of a damaged shard.
        """
        self.refresh()
        wanted = {sentence_digest(sentence): sentence for sentence in sentences}
        digests = sorted(wanted)
        positions = self._open_index().positions(as_array(digests))
        return [wanted[digest] for digest, position in zip(digests, positions, strict=True) if position < 0]

    def add(self, sentences: Sequence[str], embeddings: Embeddings) -> None:
        """Store one shard; adding the same again changes nothing.

        Args:
            sentences: distinct sentences.
            embeddings: float32 ``[n, dimension]``, a row per sentence.

        Raises: ValueError on a wrong shape, type or repeated sentence; TeacherError if a value is not finite.
        """
        digests = [sentence_digest(sentence) for sentence in sentences]
        if embeddings.ndim != 2 or embeddings.dtype != np.float32 or len(embeddings) != len(digests):
            raise ValueError(
                f"One float32 row per sentence is stored. Received: {len(digests)} sentences and "
                f"{embeddings.dtype} {embeddings.shape}."
            )
        if not digests:
            return
        if len(set(digests)) != len(digests):
            raise ValueError(f"A shard holds a sentence once. Received: {len(digests)}, {len(set(digests))} distinct.")
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(bad):
            raise TeacherError(
                f"The teacher {self.fingerprint[:12]} gave {len(bad)} embeddings that are not finite, "
                f"the first for the sentence {digests[bad[0]].hex()}; nothing of this shard was stored.",
                hint="The weights may be damaged, or the precision too low for this teacher: use float32.",
            )
        if self._cache.dimension() not in (None, embeddings.shape[1]):
            raise ValueError(f"Stored embeddings are {self._cache.dimension()} wide. Received: {embeddings.shape}.")
        body = write_shard(as_array(digests), embeddings, self.fingerprint)
        name = hashlib.sha256(body).hexdigest()
        self._store.create(self._key(name), body)  # False: it is there already, and by its name the same
        self._cache.append([Shard(name, as_array(digests), embeddings)])
        if self._live is not None:
            self._live.add(name)
        self._index = None

    def lookup(self, digests_or_sentences: Sequence[bytes] | Sequence[str]) -> Embeddings:
        """Return stored embeddings, float32 ``[n, dimension]``, in the order given.

        Raises: RestillError saying how many are not stored.
        """
        digests = [item if isinstance(item, bytes) else sentence_digest(item) for item in digests_or_sentences]
        embeddings, rows = self._find(digests)
        return np.array(embeddings[rows])

    def cosines(self, text_a: Sequence[str], text_b: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the teacher's cosine of each pair, float32 ``[n]`` in [-1, 1]; 0 where an embedding is zero.

        Raises: RestillError saying how many sentences are not stored; ValueError if the lengths differ.
        """
        if len(text_a) != len(text_b):
            raise ValueError(f"A pair has two sentences. Received: {len(text_a)} first and {len(text_b)} second ones.")
        embeddings, rows = self._find([sentence_digest(text) for text in (*text_a, *text_b)])
        left, right = rows[: len(text_a)], rows[len(text_a) :]
        cosines = np.zeros(len(left), np.float32)
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            a, b = embeddings[left[part]], embeddings[right[part]]
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosines[part] = np.einsum("nd,nd->n", a, b) / np.where(norms > 0, norms, 1)
        return np.clip(cosines, -1, 1)

    def refresh(self) -> None:
        """Bring the cache up to what S3 holds now; only shards it lacks are downloaded.

        Raises: IntegrityError naming the key of a damaged shard.
        """
        keys = (found.key for found in self._store.list(self._prefix))
        listed = {key.rsplit("/", 1)[-1].removesuffix(_SUFFIX) for key in keys if key.endswith(_SUFFIX)}
        wanted = iter(sorted(listed - self._cache.names()))
        with ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="logits") as pool:
            while names := list(itertools.islice(wanted, 2 * _DOWNLOADS)):
                self._cache.append(list(pool.map(self._download, names)))
        self._live = listed
        self._index = None

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}{_SUFFIX}"

    def _find(self, digests: Sequence[bytes]) -> tuple[Embeddings, npt.NDArray[np.int64]]:
        """Return all embeddings, mapped from disk, and the digests' rows among them."""
        wanted = as_array(digests)
        if self._live is None or (self._open_index().positions(wanted) < 0).any():
            self.refresh()  # another process may have scored them since
        index = self._open_index()
        positions = index.positions(wanted)
        lacking = {digest for digest, position in zip(digests, positions, strict=True) if position < 0}
        if lacking:
            raise RestillError(
                f"{len(lacking)} of {len(set(digests))} sentences have no stored embedding of the teacher "
                f"{self.fingerprint[:12]}.",
                hint="Score them first: the teacher step of `restill retrain` does.",
            )
        return index.embeddings, positions

    def _open_index(self) -> Index:
        if self._index is None:
            # Only what S3 lists counts: a shard deleted there would be missing on every other machine.
            self._index = self._cache.open_index(self._live or set())
        return self._index

    def _download(self, name: str) -> Shard:
        key = self._key(name)
        body = self._store.get(key)
        if (found := hashlib.sha256(body).hexdigest()) != name:
            raise IntegrityError(
                f"The shard of teacher scores {key} is damaged: expected sha256 {name}, found {found}.",
                hint="Delete that object; the next run scores its sentences again.",
            )
        return read_shard(name, key, body, self.fingerprint)
