"""The student's own tokenizer: the teacher's, pruned to what the training corpus uses. It travels in the artifact.

A teacher of one language meets characters it has no piece for (MiniLM knows few Chinese characters). Those that
the corpus repeats get pieces of their own, so that the student is not blind where the teacher is.
"""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

from tokenizers import Tokenizer

from restill.errors import TeacherError

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1

_BATCH = 4096


def prune_tokenizer(teacher: Tokenizer, sentences: Iterable[str], *, min_count: int = 2) -> Tokenizer:
    """Return a tokenizer with the pieces that `sentences` use, and single characters the teacher lacks.

    Ids: 0 pads, 1 is unknown, the rest follow the teacher's order. Special tokens and templates are left out:
    a student's sentence is only its words.

    Args:
        teacher: WordPiece or Unigram tokenizer.
        sentences: the training corpus, read once.
        min_count: occurrences from which an unknown character gets a piece.
    Raises: TeacherError if the teacher's tokenizer is of another kind.
    """
    document: dict[str, Any] = json.loads(teacher.to_str())
    kind = document["model"]["type"]
    if kind not in ("WordPiece", "Unigram"):
        raise TeacherError(
            f"A student's vocabulary is pruned from a WordPiece or Unigram tokenizer; this one is {kind}.",
            hint="Use a teacher with a WordPiece or Unigram tokenizer.json.",
        )
    used, unknown_words = _count(document, sentences)
    extra = _characters(unknown_words, min_count, wordpiece=kind == "WordPiece")
    if kind == "WordPiece":
        pieces = [piece for piece, _ in sorted(document["model"]["vocab"].items(), key=lambda item: item[1])]
        kept = [piece for piece in pieces if used[piece] and piece not in (PAD, UNKNOWN)]
        names = [PAD, UNKNOWN, *kept, *(piece for piece in extra if piece not in kept)]
        document["model"] |= {
            "vocab": {piece: index for index, piece in enumerate(names)},
            "unk_token": UNKNOWN,
        }
    else:
        scored = [(piece, score) for piece, score in document["model"]["vocab"] if used[piece]]
        known = {piece for piece, _ in scored}
        lowest = min((score for _, score in scored), default=0.0)
        scored += [(piece, lowest - 1.0) for piece in extra if piece not in known]
        document["model"] |= {"vocab": [(PAD, 0.0), (UNKNOWN, 0.0), *scored], "unk_id": UNKNOWN_ID}
    document |= {
        "added_tokens": [
            {
                "id": index,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, token in ((PAD_ID, PAD), (UNKNOWN_ID, UNKNOWN))
        ],
        "post_processor": None,
        "decoder": None,
        "truncation": None,
        "padding": None,
    }
    return Tokenizer.from_str(json.dumps(document, ensure_ascii=False))


def _count(document: dict[str, Any], sentences: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """Return how often each teacher piece is used, and each stretch of text the teacher has no piece for."""
    plain = Tokenizer.from_str(
        json.dumps(document | {"post_processor": None, "truncation": None, "padding": None}, ensure_ascii=False)
    )
    model = document["model"]
    unknown_id = (
        plain.token_to_id(model.get("unk_token") or UNKNOWN) if model["type"] == "WordPiece" else model.get("unk_id")
    )
    used: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    remaining = iter(sentences)
    while batch := list(islice(remaining, _BATCH)):
        for sentence, encoding in zip(batch, plain.encode_batch(batch, add_special_tokens=False), strict=True):
            for piece, identity, (start, end) in zip(encoding.tokens, encoding.ids, encoding.offsets, strict=True):
                if identity == unknown_id:
                    unknown[sentence[start:end].lower()] += 1
                else:
                    used[piece] += 1
    return used, unknown


def _characters(unknown_words: Counter[str], min_count: int, *, wordpiece: bool) -> list[str]:
    """Return pieces for the characters of unknown words, in code-point order; `##` marks a continuation."""
    pieces: Counter[str] = Counter()
    for word, count in unknown_words.items():
        for position, character in enumerate(word.strip()):
            pieces[f"##{character}" if wordpiece and position else character] += count
    return sorted(piece for piece, count in pieces.items() if count >= min_count and not piece.isspace())
