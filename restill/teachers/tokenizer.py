"""A teacher's tokenizer: its own tokenizer.json, or BERT's rules over a plain vocab.txt."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from restill.errors import TeacherError
from restill.settings.teaching import TeacherKind
from restill.teachers.config import BertConfig, read_json
from restill.teachers.digests import sha256

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")


class _TokenizerConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True


def open_tokenizer(directory: Path, config: BertConfig, kind: TeacherKind, max_tokens: int) -> Tokenizer:
    """Return the directory's tokenizer: adds special tokens, cuts at `max_tokens`, does not pad.

    A pair is cut token by token at whichever side is longer, so that both sides stay visible.

    Raises: TeacherError if the file is damaged, does not belong to the weights or cannot join pairs where
        it has to.
    """
    path = _tokenizer_path(directory)
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.suffix == ".json" else _word_piece(path)
    except (TeacherError, MemoryError):
        raise
    except Exception as error:  # tokenizers raises bare Exception for every unreadable file
        raise TeacherError(f"{path} is not a readable tokenizer: {error}.", hint="Fetch the file again.") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens, strategy="longest_first")
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= config.vocab_size:
        raise TeacherError(
            f"{path} knows token id {largest}, but the weights have only {config.vocab_size} word embeddings.",
            hint="Tokenizer and weights must come from the same model.",
        )
    alone = tokenizer.encode("")
    if not alone.ids:
        raise TeacherError(
            f"{path} adds no special tokens such as [CLS] and [SEP], which a BERT encoder needs.",
            hint="Use the tokenizer.json that was published with the model.",
        )
    if kind == "cross-encoder":
        joined = tokenizer.encode("", "")
        if len(joined.ids) <= len(alone.ids):
            raise TeacherError(
                f"{path} puts no special token between the two sides of a pair, which a cross-encoder needs.",
                hint="Use the tokenizer.json that was published with the model.",
            )
        if max(joined.type_ids) >= config.type_vocab_size:
            raise TeacherError(
                f"{path} marks a pair's second side as segment {max(joined.type_ids)}, but the weights have only "
                f"{config.type_vocab_size} segment embeddings.",
                hint="Tokenizer and weights must come from the same model.",
            )
    return tokenizer


def tokenizer_digest(directory: Path) -> str:
    """Return what decides the tokens: the sha256 of tokenizer.json, or of vocab.txt with its rules.

    Raises: TeacherError if there is neither.
    """
    path = _tokenizer_path(directory)
    digest = sha256(path)
    return digest if path.suffix == ".json" else f"{digest} {_tokenizer_config(directory).model_dump_json()}"


def _tokenizer_path(directory: Path) -> Path:
    for name in TOKENIZER_FILES[:2]:
        if (directory / name).is_file():
            return directory / name
    raise TeacherError(
        f"{directory} holds neither tokenizer.json nor vocab.txt.",
        hint="Fetch the tokenizer that was published with the model.",
    )


def _tokenizer_config(directory: Path) -> _TokenizerConfig:
    path = directory / "tokenizer_config.json"
    return read_json(path, TypeAdapter(_TokenizerConfig)) if path.is_file() else _TokenizerConfig()


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Return the id of each token: the number of its line, from 0, which blank lines also have.

    Raises: TeacherError if a token is on two lines.
    """
    vocabulary: dict[str, int] = {}
    # Not splitlines: some vocabularies hold tokens such as U+2028, at which it would break a line.
    for row, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
        token = line.strip()
        if token in vocabulary:
            raise TeacherError(
                f"{path} holds the token {token!r} on lines {vocabulary[token] + 1} and {row + 1}.",
                hint="Use the vocab.txt that was published with the model.",
            )
        if token:
            vocabulary[token] = row
    return vocabulary


def _word_piece(path: Path) -> Tokenizer:
    """Build BERT's own tokenizer from a plain vocabulary, one token a line."""
    rules = _tokenizer_config(path.parent)
    vocabulary = _read_vocabulary(path)
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
