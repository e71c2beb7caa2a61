"""Student architectures, and their export to what is served. One name, one builder, one file.

A student is an encoder: token ids to a unit vector. Both sentences of a pair go through the same one, so swapping
the sides of a pair changes nothing.
"""

import keras

from restill.errors import ConfigurationError
from restill.settings import StudentSettings
from restill.students import bert, cnn, dssm, siamese_lstm, static
from restill.students.bert import Predecessor
from restill.students.exports import export
from restill.students.kind import Kind, Learned, Vectors

__all__ = ["KINDS", "Kind", "Predecessor", "build", "export"]

KINDS: dict[str, Kind] = {
    "siamese-lstm": siamese_lstm.KIND,
    "dssm": dssm.KIND,
    "cnn": cnn.KIND,
    "static": static.KIND,
    "bert": bert.KIND,
}


def build(
    vocabulary_size: int,
    settings: StudentSettings,
    embeddings: Vectors | None = None,
    predecessor: Predecessor | None = None,
    learned: Learned = None,
) -> keras.Model:
    """Return an untrained encoder: int32 ids ``[batch, steps]`` (0 pads) → float32 ``[batch, size]``, unit length.

    Padding on the right changes nothing, and a row of nothing but padding gives the zero vector.

    Args:
        vocabulary_size: entries of the vocabulary.
        settings: which architecture, and its sizes.
        embeddings: initial token embeddings, float32 ``[vocabulary_size, settings.embedding_size]``; None draws them.
        predecessor: what a `bert` student is made from, and only that.
        learned: ``[vocabulary_size]``, tokens whose embeddings are trained; None: all. No matter to a `bert`.
    Raises: ConfigurationError if no such architecture can be built; ValueError if `embeddings` has another shape.
    """
    kind = KINDS.get(settings.kind)
    if kind is None:
        raise ConfigurationError(
            f"There is no student of kind {settings.kind!r} here.", hint=f"Choose one of: {', '.join(sorted(KINDS))}."
        )
    if settings.kind == "bert" and predecessor is not None:
        return bert.build(vocabulary_size, settings, predecessor)
    shape = (vocabulary_size, settings.embedding_size)
    if embeddings is not None and embeddings.shape != shape:
        raise ValueError(f"Initial embeddings must have the shape {shape}. Received: {embeddings.shape}.")
    return kind.build(vocabulary_size, settings, embeddings, learned)
