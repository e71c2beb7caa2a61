"""Text to token ids."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


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
