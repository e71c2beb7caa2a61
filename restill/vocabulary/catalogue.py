"""Every tokenisation by its name in the settings, made in one way. A new one is a file and an entry here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer

from restill.vocabulary.characters import character_tokenizer
from restill.vocabulary.folding import any_width
from restill.vocabulary.pieces import prune_tokenizer
from restill.vocabulary.word_vectors import WordVectors
from restill.vocabulary.words import word_tokenizer

_Make = Callable[[Iterable[str], Tokenizer, int, WordVectors | None, bool], Tokenizer]


@dataclass(frozen=True)
class Tokens:
    """One way to cut a sentence.

    Attributes:
        name: as in `student.tokens`.
        summary: one line for people.
    """

    name: str
    summary: str
    _make: _Make

    def make(
        self,
        sentences: Iterable[str],
        *,
        teacher: Tokenizer,
        max_size: int,
        word_vectors: WordVectors | None = None,
        keep_unused: bool = False,
    ) -> Tokenizer:
        """Return the tokenizer of a corpus: id 0 pads, 1 is unknown, no special token is added around a sentence.

        Args:
            sentences: the training corpus; must be readable more than once, as a list is and a generator is not.
            teacher: the teacher's tokenizer.
            max_size: most entries, the two first included.
            word_vectors: pretrained vectors, if there are any.
            keep_unused: `teacher` tokens only: also the pieces that the corpus does not use, as far as there is room.
        Raises: TypeError for a corpus that can be read once only, TeacherError for a teacher's tokenizer that cannot be
            pruned, ConfigurationError for word vectors that cannot be read.
        """
        if iter(sentences) is sentences:
            raise TypeError(
                "The sentences must be readable more than once. "
                f"Received: {type(sentences).__name__}, which is empty after one reading. "
                "Pass an object whose __iter__ starts from the beginning."
            )
        return self._make(sentences, teacher, max_size, word_vectors, keep_unused)


TOKENS: dict[str, Tokens] = {
    tokens.name: tokens
    for tokens in (
        Tokens(
            "teacher",
            "the teacher's WordPiece or Unigram pieces, those the corpus uses first, and characters it lacks",
            lambda sentences, teacher, max_size, _, keep_unused: prune_tokenizer(
                any_width(teacher), sentences, max_size=max_size, keep_unused=keep_unused
            ),
        ),
        Tokens(
            "char",
            "one token per character, for Chinese",
            lambda sentences, _teacher, max_size, _vectors, _: character_tokenizer(sentences, max_size=max_size),
        ),
        Tokens(
            "word",
            "whole words; word vectors tell the words of text without spaces, which is else cut into characters",
            lambda sentences, _teacher, max_size, vectors, _: word_tokenizer(
                sentences, max_size=max_size, word_vectors=vectors
            ),
        ),
    )
}
