"""Every source of token embeddings by its name in the settings, asked in one way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from restill.embeddings.sources import from_teacher_inputs, from_teacher_outputs, from_word_vectors
from restill.embeddings.teacher import Teacher
from restill.errors import ConfigurationError
from restill.vocabulary import WordVectors


@dataclass(frozen=True)
class Request:
    """What a source may look at."""

    tokenizer: Tokenizer
    size: int
    seed: int
    teacher: Teacher | None
    teacher_tokenizer: Tokenizer | None
    word_vectors: WordVectors | None


@dataclass(frozen=True)
class Source:
    """One source of token embeddings.

    Attributes:
        name: as in `student.embeddings`.
        summary: one line for people.
        needs_teacher: `initial` wants a teacher and its tokenizer.
    """

    name: str
    summary: str
    _make: Callable[[Request], NDArray[np.float32] | None]
    needs_teacher: bool = False

    def initial(
        self,
        tokenizer: Tokenizer,
        size: int,
        *,
        seed: int,
        teacher: Teacher | None = None,
        teacher_tokenizer: Tokenizer | None = None,
        word_vectors: WordVectors | None = None,
    ) -> NDArray[np.float32] | None:
        """Return float32 ``[vocabulary, size]``; None leaves it to the model: random, Glorot-normal.

        Row 0 (padding) is zero, row 1 (unknown) the mean of the rows the source knows; those have mean length 1. The
        same arguments give the same table.

        Args:
            tokenizer: the student's.
            size: width of the embeddings. Wider vectors are reduced by PCA; narrower ones get small random columns.
            seed: of everything random.
            teacher: for `teacher-inputs` and `teacher-outputs`.
            teacher_tokenizer: its tokenizer.
            word_vectors: for `word-vectors`.
        Raises: ConfigurationError if what the source needs is not given, cannot be read, or knows none of the tokens.
        """
        return self._make(Request(tokenizer, size, seed, teacher, teacher_tokenizer, word_vectors))


def _word_vectors(asked: Request) -> NDArray[np.float32]:
    if asked.word_vectors is None:
        raise ConfigurationError(
            "Embeddings from word vectors need a file of them.", hint="Set student.word_vectors to its path."
        )
    return from_word_vectors(asked.tokenizer, asked.size, asked.word_vectors, seed=asked.seed)


def _teacher_inputs(asked: Request) -> NDArray[np.float32]:
    teacher, pieces = _teacher(asked)
    return from_teacher_inputs(asked.tokenizer, asked.size, teacher, pieces, seed=asked.seed)


def _teacher_outputs(asked: Request) -> NDArray[np.float32]:
    teacher, pieces = _teacher(asked)
    return from_teacher_outputs(asked.tokenizer, asked.size, teacher, pieces, seed=asked.seed)


def _teacher(asked: Request) -> tuple[Teacher, Tokenizer]:
    if asked.teacher is None or asked.teacher_tokenizer is None:
        raise ConfigurationError(
            "Embeddings from a teacher need the teacher and its tokenizer.",
            hint="Set student.embeddings = random to do without.",
        )
    return asked.teacher, asked.teacher_tokenizer


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("random", "random, Glorot-normal", lambda _: None),
        Source("word-vectors", "pretrained vectors in word2vec's text format, by PCA to the width", _word_vectors),
        Source(
            "teacher-inputs", "the teacher's input embeddings, by PCA to the width", _teacher_inputs, needs_teacher=True
        ),
        Source(
            "teacher-outputs",
            "the teacher's output for each token alone, by PCA and weighted by rank, as model2vec does",
            _teacher_outputs,
            needs_teacher=True,
        ),
    )
}
