"""The `word` tokens: whole words, in text with spaces and in text without.

Where a script writes spaces, a word is a run of letters and digits, and each punctuation mark stands alone. Where it
does not (Chinese, Japanese, Thai, Lao, Khmer, Burmese), nothing in the corpus says where words end: the words that have
a vector say it. Such text is cut into as few of them as possible, the more frequent ones where that leaves a choice;
a character that is in none of them stands alone, so that nothing is unknown because its neighbour is.

One Unigram model does both. Words with spaces carry a mark on both ends (`▁light▁`, see `folding.marking`), so
`light` is never found inside `lightning`, while `花呗` is found inside `我的花呗`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from restill.vocabulary.entries import MIN_COUNT, PAD, UNKNOWN, UNKNOWN_ID, most_frequent
from restill.vocabulary.folding import MARK, mark, marking
from restill.vocabulary.word_vectors import WordVectors

_STRETCHES = re.compile(rf"({MARK}[^{MARK}\s]+{MARK})|([^{MARK}\s]+)")  # a word with ends, or text without
_LONGEST = 16  # characters of a word without spaces; a longer entry of a vector file is a phrase
_MOST_CANDIDATES = 500_000  # words without spaces that are tried on the corpus, in the file's order


def word_tokenizer(
    sentences: Iterable[str], *, max_size: int, word_vectors: WordVectors | None = None, min_count: int = MIN_COUNT
) -> Tokenizer:
    """Return a tokenizer of whole words; case and width make no difference, and what has no entry is unknown.

    A word gets an entry if it occurs in the corpus and has a vector, or if it occurs `min_count` times. The most
    frequent come first; the rarest beyond `max_size` are unknown.

    Args:
        sentences: the training corpus; read twice if there are word vectors.
        max_size: most entries, the two first included.
        word_vectors: says which words there are in text without spaces.
        min_count: occurrences from which a word without a vector gets an entry.
    Raises: ConfigurationError if the vectors cannot be read.
    """
    counts, neighbours = _count(sentences, neighbours=word_vectors is not None)
    found: set[str] = set()
    if word_vectors is not None:
        found, candidates = _look_up(word_vectors, counts, neighbours)
        if candidates:
            words = _count_words(sentences, candidates, counts)
            found.update(words)
            counts.update(words)
    kept = Counter({word: count for word, count in counts.items() if count >= min_count or word in found})
    return _tokenizer(most_frequent(kept, max_size - 2))


def _tokenizer(words: list[str]) -> Tokenizer:
    # Every piece costs 1, so the cheapest cut has the fewest. What is added to that is too small to buy a piece
    # (a sentence would need a thousand of them), and less for the words that come first.
    scores = [-1.0 - 0.001 * rank / len(words) for rank in range(len(words))]
    tokenizer = Tokenizer(
        models.Unigram([(PAD, 0.0), (UNKNOWN, 0.0), *zip(words, scores, strict=True)], unk_id=UNKNOWN_ID)
    )
    tokenizer.normalizer = marking()
    # Words with ends are set apart, so that one unknown word does not melt with the next into one unknown.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(f"{MARK}[^{MARK}]+{MARK}"), "isolated")]
    )
    return tokenizer


def _stretches(sentences: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield a marked word and "", or "" and text without spaces or punctuation."""
    for sentence in sentences:
        yield from _STRETCHES.findall(mark(sentence))


def _count(sentences: Iterable[str], *, neighbours: bool) -> tuple[Counter[str], set[str]]:
    """Return counts of marked words and of single characters of other text, and which two of those are neighbours."""
    counts: Counter[str] = Counter()
    pairs: set[str] = set()
    for marked, text in _stretches(sentences):
        if marked:
            counts[marked] += 1
            continue
        counts.update(text)
        if neighbours:
            pairs.update(text[place : place + 2] for place in range(len(text) - 1))
    return counts, pairs


def _look_up(vectors: WordVectors, counts: Counter[str], neighbours: set[str]) -> tuple[set[str], list[str]]:
    """Return the entries that have a vector, and the words without spaces that the corpus may hold.

    A word whose neighbouring characters are nowhere neighbours in the corpus is not in it: what is left of a file
    with millions of words is small.
    """
    found: set[str] = set()
    candidates: dict[str, None] = {}
    for word in vectors.words():
        parts = _STRETCHES.findall(mark(word))
        if len(parts) != 1:
            continue
        marked, text = parts[0]
        if (marked or text) in counts:
            found.add(marked or text)
        elif (
            1 < len(text) <= _LONGEST
            and len(candidates) < _MOST_CANDIDATES
            and all(text[place : place + 2] in neighbours for place in range(len(text) - 1))
        ):
            candidates[text] = None
    return found, list(candidates)


def _count_words(sentences: Iterable[str], candidates: list[str], counts: Counter[str]) -> Counter[str]:
    """Return how often each candidate is used where text without spaces is cut into as few words as possible."""
    trial = _tokenizer([*candidates, *(entry for entry in counts if len(entry) == 1)])
    known = set(candidates)
    words: Counter[str] = Counter()
    for marked, text in _stretches(sentences):
        if not marked and len(text) > 1:
            words.update(token for token in trial.encode(text).tokens if token in known)
    return words
