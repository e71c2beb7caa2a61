"""Text to token ids."""

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.errors import InvalidText

CHARACTERS_A_TOKEN = 64  # read of a text for each token that the model takes: real ones have a tenth of that
_INVISIBLE = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))  # as the row rules have it, which keep such texts out


def tokenize(tokenizer: Tokenizer, sentences: Sequence[str], steps: int) -> NDArray[np.int32]:
    """Return ids ``[sentences, steps]``, cut at `steps` and padded with 0."""
    ids = np.zeros((len(sentences), steps), np.int32)
    for row, encoding in enumerate(tokenizer.encode_batch_fast(list(sentences))):
        cut = encoding.ids[:steps]
        ids[row, : len(cut)] = cut
    return ids


def tokenize_one(tokenizer: Tokenizer, sentence: str, steps: int) -> list[int]:
    """Return the ids of one sentence, cut at `steps`. For one or two, a batch costs more than it saves."""
    ids: list[int] = tokenizer.encode(sentence).ids[:steps]
    return ids


def readable(text: str, steps: int) -> str:
    """Return what a model of so many steps reads of a text, which bounds the work that any text can cause.

    A text longer than 64 characters a step is cut there, after blanks at its beginning. That changes no id unless its
    tokens have more than 64 characters on average, blanks between them included.

    Raises: InvalidText if it is not a string, has nothing visible there, or is not valid Unicode.
    """
    if not isinstance(text, str):
        raise InvalidText(f"is not a string but {type(text).__name__}")
    limit = CHARACTERS_A_TOKEN * steps
    if len(text) > limit:
        text = text.lstrip()[:limit]
    if all(unicodedata.category(character) in _INVISIBLE for character in text):
        raise InvalidText("has no visible character" + (f" among its first {limit:,}" if len(text) == limit else ""))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidText(
                f"is not valid Unicode: half a surrogate pair, U+{ord(text[error.start]):04X}, "
                f"stands at character {error.start}"
            ) from error
    return text
