"""The tokens of a `bert` student: its teacher's own, with the prompt and the special tokens that a BERT reads them in.

They are put there by the tokenizer itself, so they travel in the artifact and whoever serves it need not know of them:
the prompt is written before the text, [CLS] and [SEP] stand around it, and a long text is cut so that [SEP] stays.
"""

import json
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers, processors

from restill.errors import ConfigurationError
from restill.vocabulary.entries import PAD_ID, UNKNOWN_ID
from restill.vocabulary.pieces import prune_tokenizer


def bert_tokenizer(
    sentences: Iterable[str], *, teacher: Tokenizer, prompt: str, max_tokens: int, max_size: int
) -> Tokenizer:
    """Return the teacher's tokenizer with the pieces that the corpus, the prompt and the special tokens need.

    A sentence of the corpus is cut as the teacher cuts it. Characters that the teacher lacks stay unknown: it has no
    embedding that theirs could start from. Id 0 pads, 1 is unknown.

    Args:
        sentences: the training corpus, read once.
        teacher: a WordPiece or Unigram tokenizer that adds special tokens.
        prompt: put before every sentence.
        max_tokens: longest input, prompt and special tokens included; what is cut off is the end of the sentence.
        max_size: most entries; the rarest pieces beyond are cut into other pieces or unknown.
    Raises: ConfigurationError if prompt and special tokens leave no room for a sentence; TeacherError if the teacher's
        tokenizer is of another kind.
    """
    head, tail = _special_tokens(teacher)
    prompted = Tokenizer.from_str(teacher.to_str())
    if prompt:  # before normalising, so that it reads like any text, whatever the pieces are
        prompted.normalizer = normalizers.Sequence([normalizers.Prepend(prompt), *filter(None, [prompted.normalizer])])
    taken = len(head) + len(tail) + len(teacher.encode(prompt, add_special_tokens=False).ids)
    if taken >= max_tokens:
        raise ConfigurationError(
            f"student.max_tokens is {max_tokens}, but prompt and special tokens of the teacher take {taken}.",
            hint="Raise student.max_tokens.",
        )
    specials = list(dict.fromkeys([*head, *tail]))
    pruned = prune_tokenizer(prompted, sentences, min_count=sys.maxsize, max_size=max_size - len(specials))
    document: dict[str, Any] = json.loads(pruned.to_str())
    entries = document["model"]["vocab"]
    for token in specials:
        if pruned.token_to_id(token) is not None:  # the corpus spells it
            continue
        if isinstance(entries, dict):
            entries[token] = len(entries)
        else:
            entries.append([token, 0.0])
    finished = Tokenizer.from_str(json.dumps(document, ensure_ascii=False))
    finished.post_processor = processors.TemplateProcessing(
        single=[*head, "$A", *tail], special_tokens=[(token, finished.token_to_id(token)) for token in specials]
    )
    finished.enable_truncation(max_length=max_tokens)
    return finished


def teacher_ids(student: Tokenizer, teacher: Tokenizer, *, pad_id: int) -> NDArray[np.int64]:
    """Return the teacher's id of each entry of a `bert_tokenizer`: ``[vocabulary]``, `pad_id` for padding."""
    model: dict[str, Any] = json.loads(teacher.to_str())["model"]
    unknown = teacher.token_to_id(model["unk_token"]) if model["type"] == "WordPiece" else model.get("unk_id")
    own = {PAD_ID: pad_id, UNKNOWN_ID: pad_id if unknown is None else unknown}
    entries = sorted(student.get_vocab().items(), key=lambda item: item[1])
    return np.array([own[row] if row in own else teacher.token_to_id(token) for token, row in entries], np.int64)


def _special_tokens(teacher: Tokenizer) -> tuple[list[str], list[str]]:
    """Return what a tokenizer puts before and after a text."""
    example = teacher.encode("a")
    before = example.special_tokens_mask.index(0)
    after = example.special_tokens_mask[::-1].index(0)
    return example.tokens[:before], example.tokens[len(example.tokens) - after :]
