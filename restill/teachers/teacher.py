"""The teacher as the rest of the system sees it: sentences in, unit vectors out; or pairs in, logits out."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding

from restill.errors import TeacherError
from restill.settings import TeacherSettings
from restill.teachers.files import TeacherFiles, open_teacher

if TYPE_CHECKING:
    from restill.teachers.encoder import BertEncoder

Item: TypeAlias = str | tuple[str, str]
"""What a teacher reads at once: a bi-encoder a sentence, a cross-encoder a pair."""

Row: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""An item as the encoder reads it: token ids, and a segment for each."""

_TOKENIZED_AT_ONCE = 10_000


class Teacher:
    """A frozen encoder with its tokenizer, prompt and output.

    Attributes:
        fingerprint: sha256 (hex) over everything that decides an output.
        name: for people.
        kind: bi-encoder (a unit vector per sentence) or cross-encoder (a logit per pair).
        dimension: width of an output: the encoder's hidden width, or 1 for a cross-encoder.
        encoder: the frozen TensorFlow module.
        real_tokens: tokens encoded so far.
        padded_tokens: tokens computed so far, padding included.
    """

    def __init__(self, files: TeacherFiles, encoder: "BertEncoder", *, fingerprint: str, batch_tokens: int) -> None:
        """Join a checked directory and its loaded encoder; `load_teacher` makes both."""
        self.fingerprint = fingerprint
        self.name = files.name
        self.kind = files.kind
        self.dimension = 1 if files.kind == "cross-encoder" else files.config.hidden_size
        self.encoder = encoder
        self.real_tokens = 0
        self.padded_tokens = 0
        self._files = files
        self._batch_tokens = batch_tokens

    @property
    def padding_share(self) -> float:
        """Return the share of the tokens computed so far that were padding, in [0, 1)."""
        return 1 - self.real_tokens / self.padded_tokens if self.padded_tokens else 0.0

    def count_tokens(self, items: Sequence[Item]) -> npt.NDArray[np.int32]:
        """Return the tokens the encoder reads per item, prompt and special tokens included: ``[n]``.

        Raises: ValueError as `encode_items` does.
        """
        counts = [len(encoding.ids) for part in self._tokenize(items) for encoding in part]
        return np.array(counts, np.int32)

    def encode(self, sentences: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector per sentence, float32 ``[n, dimension]``, in the order given.

        Raises: ValueError if this is a cross-encoder.
        """
        self._require("bi-encoder", "encode sentences", "score_pairs")
        return self.encode_items(sentences)

    def score_pairs(self, text_a: Sequence[str], text_b: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one logit of being a duplicate per pair, float32 ``[n, 1]``, in the order given.

        The model's last label counts as the duplicate: of two logits, the second less the first is returned.

        Raises: ValueError if this is a bi-encoder, or the sides differ in length.
        """
        self._require("cross-encoder", "score pairs", "encode")
        return self.encode_items(list(zip(text_a, text_b, strict=True)))

    def encode_items(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        """Return one output per item, float32 ``[n, dimension]``, in the order given.

        Items of like length share a batch, so little padding is computed.

        Args:
            items: sentences for a bi-encoder; (text_a, text_b) tuples for a cross-encoder.

        Raises: ValueError if an item is of the other kind.
        """
        return self.encode_rows(self.tokenize(items))

    def tokenize(self, items: Sequence[Item]) -> list[Row]:
        """Return items as `encode_rows` takes them. A thread may do this while another one computes.

        Raises: ValueError if an item is of the other kind.
        """
        paired = self.kind == "cross-encoder"
        return [
            # A sentence alone is segment 0, whatever its tokenizer says.
            (encoding.ids, encoding.type_ids if paired else [0] * len(encoding.ids))
            for part in self._tokenize(items)
            for encoding in part
        ]

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """Return the input embedding of each token, float32 ``[vocabulary, width]``.

        They are the word embeddings alone: without positions and before normalisation. Where a checkpoint
        factorises them, they are the narrow ones, before the mapping to the hidden width.
        """
        embeddings: npt.NDArray[np.float32] = self.encoder.word_embeddings.numpy()
        return embeddings

    def embed_tokens(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return the unit vector of each token read alone between its special tokens: float32 ``[n, dimension]``.

        No prompt is put before it.

        Args:
            ids: token ids of the teacher's own vocabulary.

        Raises: ValueError if this is a cross-encoder, or an id is outside the vocabulary.
        """
        self._require("bi-encoder", "embed tokens", "score_pairs")
        if any(not 0 <= token < self._files.config.vocab_size for token in ids):
            raise ValueError(
                f"Token ids must be from 0 to {self._files.config.vocab_size - 1}, the teacher's vocabulary. "
                f"Received: {min(ids)} to {max(ids)}."
            )
        example = self._files.tokenizer.encode("a")
        special = example.special_tokens_mask
        before = special.index(0)
        after = special[::-1].index(0)
        head, tail = example.ids[:before], example.ids[len(special) - after :]
        segments = [0] * (before + 1 + after)
        return self.encode_rows([([*head, int(token), *tail], segments) for token in ids])

    def _require(self, kind: str, wish: str, instead: str) -> None:
        if self.kind != kind:
            raise ValueError(f"Only a {kind} can {wish}; {self.name} is a {self.kind}. Use {instead}.")

    def _tokenize(self, items: Sequence[Item]) -> Iterator[list[Encoding]]:
        tokenizer, prompt = self._files.tokenizer, self._files.prompt
        for start in range(0, len(items), _TOKENIZED_AT_ONCE):
            prompted: list[Item] = []
            for item in items[start : start + _TOKENIZED_AT_ONCE]:
                if isinstance(item, str) == (self.kind == "cross-encoder"):
                    reads = "(text_a, text_b) tuples" if self.kind == "cross-encoder" else "single sentences"
                    raise ValueError(f"{self.name} is a {self.kind}: it reads {reads}. Received: {item!r}.")
                prompted.append(prompt + item if isinstance(item, str) else (prompt + item[0], item[1]))
            yield tokenizer.encode_batch(prompted)

    def encode_rows(self, rows: Sequence[Row]) -> npt.NDArray[np.float32]:
        """Return one output per row, float32 ``[n, dimension]``, in the order given, and count the tokens."""
        lengths = np.array([len(ids) for ids, _ in rows], np.int32)
        outputs = np.zeros((len(rows), self.dimension), np.float32)
        for batch in self._batches(lengths):
            ids = np.full((len(batch), int(lengths[batch].max())), self._files.pad_id, np.int32)
            segments = np.zeros_like(ids)
            for place, row in enumerate(batch):
                ids[place, : lengths[row]], segments[place, : lengths[row]] = rows[row]
            outputs[batch] = self.encoder(ids, lengths[batch], segments)
            self.real_tokens += int(lengths[batch].sum())
            self.padded_tokens += ids.size
        return outputs

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


def load_teacher(settings: TeacherSettings) -> Teacher:
    """Load the frozen teacher that the settings name; imports TensorFlow.

    With precision float32 it turns TensorFloat-32 off for this process.

    Raises: TeacherError if the directory does not hold a usable BERT encoder, IntegrityError if the packaged
        weights are not the published ones.
    """
    files = open_teacher(settings)
    before = files.signatures()
    found = files.fingerprint()  # hashes the weights, so they are checked before they are read
    tokenizer = files.tokenizer
    tokenizer.encode("")  # a damaged tokenizer is found before TensorFlow is imported
    import tensorflow as tf

    from restill.teachers.encoder import BertEncoder

    if files.precision == "float32":
        # By default TensorFlow rounds float32 products to 10 bits of mantissa on recent GPUs: scores made there
        # would differ in the third digit from scores of a CPU that have the same fingerprint.
        tf.config.experimental.enable_tensor_float_32_execution(False)
    weights = files.read_weights()
    if files.signatures() != before:
        # The fingerprint is then not of what was read, and scores would be kept under another teacher's name.
        raise TeacherError(
            f"Files of {files.directory} changed while they were read.",
            hint="Run again when nothing writes to them; put a new teacher into a folder of its own.",
        )
    encoder = BertEncoder(files.config, weights, pooling=files.pooling, labels=files.labels, precision=files.precision)
    return Teacher(files, encoder, fingerprint=found, batch_tokens=settings.batch_tokens)
