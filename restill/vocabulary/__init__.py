"""The student's own tokenizer, one file for each way to cut a sentence. It travels in the artifact.

Each is a `tokenizers.Tokenizer` and nothing else, so serving needs none of this package.
"""

from restill.vocabulary.catalogue import TOKENS, Tokens
from restill.vocabulary.characters import character_tokenizer
from restill.vocabulary.entries import PAD, PAD_ID, UNKNOWN, UNKNOWN_ID
from restill.vocabulary.folding import fold
from restill.vocabulary.pieces import prune_tokenizer
from restill.vocabulary.texts import texts
from restill.vocabulary.word_vectors import WordVectors
from restill.vocabulary.words import word_tokenizer

__all__ = [
    "PAD",
    "PAD_ID",
    "TOKENS",
    "UNKNOWN",
    "UNKNOWN_ID",
    "Tokens",
    "WordVectors",
    "character_tokenizer",
    "fold",
    "prune_tokenizer",
    "texts",
    "word_tokenizer",
]
