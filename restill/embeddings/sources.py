"""The four sources of token embeddings, each a function from a tokenizer to a table."""

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.embeddings.reduction import fill, reduce_width
from restill.embeddings.teacher import Teacher, cut
from restill.errors import ConfigurationError
from restill.vocabulary import PAD_ID, UNKNOWN_ID, WordVectors, fold, texts

# Means of these vectors, untrained, told QQP's duplicates with ROC-AUC 0.753 for `teacher` tokens and 0.713 for `word`;
# model2vec's default, 1e-4, gave 0.750 and 0.678, no weights 0.719 and 0.689 (all-MiniLM-L6-v2, 96 wide).
SIF = 1e-3


def from_word_vectors(tokenizer: Tokenizer, size: int, vectors: WordVectors, *, seed: int) -> NDArray[np.float32]:
    """Return the word vectors of the tokens that are words, reduced to `size` by PCA: ``[vocabulary, size]``.

    Words are compared as `word` tokens write them: folded, in lower case. A continuation piece (`##s`) is no word, and
    gets random values as other tokens without a vector do.

    Args:
        tokenizer: the student's.
        size: width of the embeddings; the vectors may be wider, or narrower: see `reduce_width`.
        vectors: read once.
        seed: of everything random.
    Raises: ConfigurationError if the file cannot be read, or holds no word of the vocabulary.
    """
    names = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    prefix: str = getattr(tokenizer.model, "continuing_subword_prefix", None) or "\0"
    words = {
        token: text
        for (name, token), text in zip(names, texts(tokenizer), strict=True)
        if token not in (PAD_ID, UNKNOWN_ID) and text and not name.startswith(prefix)
    }
    found = vectors.read(set(words.values()), fold=fold)
    tokens = [token for token, word in words.items() if word in found]
    if not tokens:
        raise ConfigurationError(
            f"The word vectors {vectors.path} hold none of the {len(words)} words of the vocabulary.",
            hint="Is the file in the language of the pairs? student.tokens = word has the most words in it.",
        )
    rows = reduce_width(np.stack([found[words[token]] for token in tokens]), size, seed=seed)
    return fill(rows, np.array(tokens, np.int64), tokenizer.get_vocab_size(), seed=seed)


def from_teacher_inputs(
    tokenizer: Tokenizer, size: int, teacher: Teacher, teacher_tokenizer: Tokenizer, *, seed: int
) -> NDArray[np.float32]:
    """Return the teacher's input embeddings, reduced to `size` by PCA: ``[vocabulary, size]``.

    A token that the teacher cuts into several pieces gets their mean.

    Raises: ConfigurationError if the teacher has no piece for any token.
    """
    known = cut(tokenizer, teacher_tokenizer)
    _some(len(known), tokenizer)
    embeddings = teacher.token_embeddings()
    rows = np.stack([embeddings[entry.pieces].mean(axis=0) for entry in known])
    tokens = np.array([entry.token for entry in known], np.int64)
    return fill(reduce_width(rows, size, seed=seed), tokens, tokenizer.get_vocab_size(), seed=seed)


def from_teacher_outputs(
    tokenizer: Tokenizer,
    size: int,
    teacher: Teacher,
    teacher_tokenizer: Tokenizer,
    *,
    seed: int,
    sif: float | None = SIF,
) -> NDArray[np.float32]:
    """Return the teacher's output vector for each token read alone, reduced and weighted as model2vec does.

    After PCA a row is weighted by sif / (sif + p), p the token's probability by Zipf's law: rank r of n tokens has
    p ∝ 1/(r + 1), and the rank is the id (tokenizers list the frequent first). So frequent words, which say little, are
    short. In model2vec's ablations, outputs are better than inputs by 6 points, PCA adds 3 and the weights 3.

    Args:
        tokenizer: the student's.
        size: width of the embeddings.
        teacher: asked for every token once.
        teacher_tokenizer: the teacher's own.
        seed: of everything random.
        sif: smooth inverse frequency's coefficient (Arora, Liang and Ma 2017); None weights nothing.
    Returns: float32 ``[vocabulary, size]``.
    Raises: ConfigurationError if the teacher has no piece for any token.
    References: https://github.com/MinishLab/model2vec and its results/README.md; https://openreview.net/forum?id=SyK00v5xx
    """
    known = cut(tokenizer, teacher_tokenizer)
    _some(len(known), tokenizer)
    whole = [place for place, entry in enumerate(known) if len(entry.pieces) == 1]
    parts = [place for place, entry in enumerate(known) if len(entry.pieces) > 1]
    answers = [
        (places, np.asarray(vectors, np.float32))
        for places, vectors in (
            (whole, teacher.embed_tokens([known[place].pieces[0] for place in whole]) if whole else ()),
            (parts, teacher.encode([known[place].text for place in parts]) if parts else ()),
        )
        if places
    ]
    vectors = np.empty((len(known), answers[0][1].shape[1]), np.float32)
    for places, answer in answers:
        vectors[places] = answer
    rows = reduce_width(vectors, size, seed=seed)
    tokens = np.array([entry.token for entry in known], np.int64)
    if sif is not None:
        rows *= _zipf_weights(tokenizer.get_vocab_size() - 2, sif)[tokens - 2, np.newaxis]
    return fill(rows, tokens, tokenizer.get_vocab_size(), seed=seed)


def _zipf_weights(tokens: int, sif: float) -> NDArray[np.float32]:
    probabilities = 1.0 / np.arange(2, tokens + 2)
    probabilities /= probabilities.sum()
    weights: NDArray[np.float32] = (sif / (sif + probabilities)).astype(np.float32)
    return weights


def _some(known: int, tokenizer: Tokenizer) -> None:
    if not known:
        raise ConfigurationError(
            f"The teacher has no piece for any of the {tokenizer.get_vocab_size() - 2} tokens of the vocabulary.",
            hint="Take a teacher of the pairs' language, or student.embeddings = random.",
        )
