"""The teacher as the rest of the system sees it: sentences in, unit vectors out."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from restill.settings import TeacherSettings
from restill.teachers.files import Precision, TeacherFiles, open_teacher

if TYPE_CHECKING:
    from restill.teachers.encoder import BertEncoder

_TOKENIZED_AT_ONCE = 10_000


class Teacher:
    """A frozen bi-encoder with its tokenizer, prompt and pooling.

    Attributes:
        fingerprint: sha256 (hex) over everything that decides an embedding.
        name: for people.
        dimension: width of an embedding.
        encoder: the frozen TensorFlow module.
        real_tokens: tokens encoded so far.
        padded_tokens: tokens computed so far, padding included.
    """

    def __init__(self, files: TeacherFiles, encoder: "BertEncoder", *, fingerprint: str, batch_tokens: int) -> None:
        """Join a checked directory and its loaded encoder; `load_teacher` makes both."""
        self.fingerprint = fingerprint
        self.name = files.name
        self.dimension = files.config.hidden_size
        self.encoder = encoder
        self.real_tokens = 0
        self.padded_tokens = 0
        self._files = files
        self._batch_tokens = batch_tokens

    @property
    def padding_share(self) -> float:
        """Return the share of the tokens computed so far that were padding, in [0, 1)."""
        return 1 - self.real_tokens / self.padded_tokens if self.padded_tokens else 0.0

    def count_tokens(self, sentences: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return the tokens the encoder reads per sentence, prompt and special tokens included: ``[n]``."""
        counts = [len(encoding.ids) for part in self._tokenize(sentences) for encoding in part]
        return np.array(counts, np.int32)

    def encode(self, sentences: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector per sentence, float32 ``[n, dimension]``, in the order given.

        Sentences of like length share a batch, so little padding is computed.
        """
        rows = [encoding.ids for part in self._tokenize(sentences) for encoding in part]
        lengths = np.array([len(row) for row in rows], np.int32)
        embeddings = np.zeros((len(rows), self.dimension), np.float32)
        for batch in self._batches(lengths):
            tokens = int(lengths[batch].max())
            ids = np.full((len(batch), tokens), self._files.pad_id, np.int32)
            for place, row in enumerate(batch):
                ids[place, : lengths[row]] = rows[row]
            embeddings[batch] = self.encoder(ids, lengths[batch])
            self.real_tokens += int(lengths[batch].sum())
            self.padded_tokens += ids.size
        return embeddings

    def _tokenize(self, sentences: Sequence[str]) -> Iterator[list[Encoding]]:
        tokenizer, prompt = self._files.tokenizer, self._files.prompt
        for start in range(0, len(sentences), _TOKENIZED_AT_ONCE):
            part = sentences[start : start + _TOKENIZED_AT_ONCE]
            yield tokenizer.encode_batch([prompt + sentence for sentence in part])

    def _batches(self, lengths: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[np.int64]]:
        """Yield row numbers, shortest first: as many as fit `batch_tokens` with padding, but at least one."""
        order = np.argsort(lengths, kind="stable")
        start = 0
        while start < len(order):
            # Sorted, so the last row of a batch is its widest: grow the batch while rows · widest still fits.
            widest = lengths[order[start : start + self._batch_tokens]].astype(np.int64)
            fits = int(np.count_nonzero(widest * np.arange(1, len(widest) + 1) <= self._batch_tokens))
            yield order[start : start + max(fits, 1)]
            start += max(fits, 1)


def load_teacher(settings: TeacherSettings, *, precision: Precision = "float32") -> Teacher:
    """Load the frozen teacher that the settings name; imports TensorFlow.

    Args:
        settings: which teacher, and how it reads a sentence.
        precision: type of the encoder's matrix products; below float32 the embeddings differ in the third
            digit, so it is part of the fingerprint.

    Raises: TeacherError if the directory does not hold a usable BERT encoder, IntegrityError if the packaged
        weights are not the published ones.
    """
    files = open_teacher(settings)
    found = files.fingerprint(precision=precision)  # hashes the weights, so they are checked before they are read
    tokenizer = files.tokenizer
    tokenizer.encode("")  # a damaged tokenizer is found before TensorFlow is imported
    from restill.teachers.encoder import BertEncoder, read_weights

    encoder = BertEncoder(files.config, read_weights(files.weights_path, files.config), files.pooling, precision)
    return Teacher(files, encoder, fingerprint=found, batch_tokens=settings.batch_tokens)
