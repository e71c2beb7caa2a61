"""The `teacher` tokens: the teacher's own pieces, pruned to what the training corpus uses.

A teacher of one language meets characters it has no piece for (MiniLM knows few Chinese characters). Those that
the corpus repeats get pieces of their own, so that the student is not blind where the teacher is.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

from tokenizers import Tokenizer, normalizers

from restill.errors import TeacherError
from restill.vocabulary.entries import MIN_COUNT, PAD, PAD_ID, UNKNOWN, UNKNOWN_ID, most_frequent, numbered

_BATCH = 4096
_RESERVED = re.compile(r"\[unused\d+\]")


def prune_tokenizer(
    teacher: Tokenizer,
    sentences: Iterable[str],
    *,
    min_count: int = MIN_COUNT,
    max_size: int | None = None,
    keep_unused: bool = False,
) -> Tokenizer:
    """Return a tokenizer with the pieces that `sentences` use, and single characters the teacher lacks.

    Ids: 0 pads, 1 is unknown, the rest follow the teacher's order. Special tokens and templates are left out:
    a student's sentence is only its words.

    Args:
        teacher: WordPiece or Unigram tokenizer.
        sentences: the training corpus, read once.
        min_count: occurrences from which an unknown character gets a piece.
        max_size: most entries, the two first included; the rarest pieces beyond are dropped, and what they stood
            for is cut into other pieces or unknown.
        keep_unused: fill up to `max_size` with the teacher's other pieces, the first in its order: the next sentences
            will have other words than the corpus has.
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
    counts = Counter({piece: count for piece, count in (used + extra).items() if piece not in (PAD, UNKNOWN)})
    kept = set(counts if max_size is None else most_frequent(counts, max_size - 2))
    if keep_unused:
        unused = _unused(document, counts)
        kept.update(unused if max_size is None else unused[: max(0, max_size - 2 - len(kept))])
    if kind == "WordPiece":
        pieces = [piece for piece, _ in sorted(document["model"]["vocab"].items(), key=lambda item: item[1])]
        ordered = [piece for piece in pieces if piece in kept]
        document["model"] |= {
            "vocab": numbered([*ordered, *sorted(kept.difference(pieces))]),
            "unk_token": UNKNOWN,
        }
    else:
        scored = [(piece, score) for piece, score in document["model"]["vocab"] if piece in kept]
        lowest = min((score for _, score in scored), default=0.0)
        scored += [(piece, lowest - 1.0) for piece in sorted(kept.difference(piece for piece, _ in scored))]
        document["model"] |= {"vocab": [(PAD, 0.0), (UNKNOWN, 0.0), *scored], "unk_id": UNKNOWN_ID}
    document |= {"added_tokens": [], "post_processor": None, "decoder": None, "truncation": None, "padding": None}
    return _deaf_to_specials(Tokenizer.from_str(json.dumps(document, ensure_ascii=False)))


def _unused(document: dict[str, Any], used: Counter[str]) -> list[str]:
    """Return the pieces of a tokenizer that are neither used nor special, in its order."""
    vocabulary = document["model"]["vocab"]
    if isinstance(vocabulary, dict):
        pieces = [piece for piece, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
    else:
        pieces = [piece for piece, _ in vocabulary]
    special = {token["content"] for token in document["added_tokens"]} | {PAD, UNKNOWN}
    return [piece for piece in pieces if piece not in used and piece not in special and not _RESERVED.fullmatch(piece)]


def _deaf_to_specials(tokenizer: Tokenizer) -> Tokenizer:
    """Keep a sentence that spells `[PAD]` from being padding: a tokenizer that lower-cases reads it as text anyway."""
    if PAD_ID in tokenizer.encode(f"{PAD} {PAD}{UNKNOWN}").ids:
        broken = [normalizers.Replace(name, f"{name[0]} {name[1:]}") for name in (PAD, UNKNOWN)]
        tokenizer.normalizer = normalizers.Sequence([*broken, *filter(None, [tokenizer.normalizer])])
    return tokenizer


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


def _characters(unknown_words: Counter[str], min_count: int, *, wordpiece: bool) -> Counter[str]:
    """Return pieces for the characters of unknown words, with their counts; `##` marks a continuation."""
    pieces: Counter[str] = Counter()
    for word, count in unknown_words.items():
        for position, character in enumerate(word.strip()):
            pieces[f"##{character}" if wordpiece and position else character] += count
    return Counter({piece: count for piece, count in pieces.items() if count >= min_count and not piece.isspace()})
