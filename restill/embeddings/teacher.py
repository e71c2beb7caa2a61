"""What is asked of a teacher here, and the questions that a student's tokens put to it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.vocabulary import texts

_AT_ONCE = 4096


class Teacher(Protocol):
    """The part of a frozen encoder that token embeddings come from."""

    def token_embeddings(self) -> NDArray[np.float32]:
        """Return the input embedding of every piece of its tokenizer, ``[pieces, width]``."""
        ...

    def embed_tokens(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the output vector of each piece read alone, ``[len(ids), dimension]``."""
        ...

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Return the output vector of each sentence, ``[len(sentences), dimension]``."""
        ...


@dataclass(frozen=True)
class TokenPieces:
    """A student's token in the teacher's terms."""

    token: int  # the student's id
    text: str
    pieces: list[int]  # the teacher's ids, without unknown and special ones; at least one


def cut(tokenizer: Tokenizer, teacher_tokenizer: Tokenizer) -> list[TokenPieces]:
    """Return each of the student's tokens as the teacher's pieces; a token the teacher has no piece for is left out.

    A token that is itself a piece of the teacher stays whole (`##s` is `##s`); any other is cut as its text is
    (`▁lights▁` is `light`, `##s`).
    """
    names = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    found: dict[int, TokenPieces] = {}
    others: list[tuple[int, str]] = []
    for (name, token), text in zip(names[2:], texts(tokenizer)[2:], strict=True):
        piece = teacher_tokenizer.token_to_id(name)
        if piece is not None:
            found[token] = TokenPieces(token, text, [piece])
        elif text:
            others.append((token, text))
    no_piece = _unknown_id(teacher_tokenizer)
    for start in range(0, len(others), _AT_ONCE):
        part = others[start : start + _AT_ONCE]
        encodings = teacher_tokenizer.encode_batch([text for _, text in part], add_special_tokens=False)
        for (token, text), encoding in zip(part, encodings, strict=True):
            # The mask is 0 where a tokenizer that is set to pad did so.
            read = [piece for piece, real in zip(encoding.ids, encoding.attention_mask, strict=True) if real]
            if pieces := [piece for piece in read if piece != no_piece]:
                found[token] = TokenPieces(token, text, pieces)
    return [found[token] for token in sorted(found)]


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    model = json.loads(tokenizer.to_str())["model"]  # a Unigram model tells it nowhere else
    name: str | None = model.get("unk_token")
    identity: int | None = model.get("unk_id") if name is None else tokenizer.token_to_id(name)
    return identity
