"""The `char` tokens: one for each character, as the recipe has it for Chinese."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers

from restill.vocabulary.entries import MIN_COUNT, UNKNOWN, most_frequent, numbered
from restill.vocabulary.folding import fold, folding


def character_tokenizer(sentences: Iterable[str], *, max_size: int, min_count: int = MIN_COUNT) -> Tokenizer:
    """Return a tokenizer with one token per character; case, width and white space make no difference.

    The most frequent characters come first. A character that is rare or beyond `max_size` is unknown, by itself.

    Args:
        sentences: the training corpus, read once.
        max_size: most entries, the two first included.
        min_count: occurrences from which a character gets an entry.
    """
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(fold(sentence))
    frequent = Counter(
        {character: count for character, count in counts.items() if count >= min_count and not character.isspace()}
    )
    # BPE that has learnt no merge leaves characters. Cutting first and looking up then takes twice as long.
    tokenizer = Tokenizer(
        models.BPE(numbered(most_frequent(frequent, max_size - 2)), [], unk_token=UNKNOWN, fuse_unk=False)
    )
    tokenizer.normalizer = folding()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer
