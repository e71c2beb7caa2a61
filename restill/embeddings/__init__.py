"""What a student's token embeddings start from. Needs no TensorFlow; a teacher is asked through a protocol."""

from restill.embeddings.catalogue import SOURCES, Source
from restill.embeddings.reduction import fill, reduce_width
from restill.embeddings.sources import from_teacher_inputs, from_teacher_outputs, from_word_vectors
from restill.embeddings.teacher import Teacher
from restill.vocabulary import WordVectors

__all__ = [
    "SOURCES",
    "Source",
    "Teacher",
    "WordVectors",
    "fill",
    "from_teacher_inputs",
    "from_teacher_outputs",
    "from_word_vectors",
    "reduce_width",
]
