"""Embedding → windows of 1, 2 and 3 tokens → masked max-pool → unit length (Kim 2014, https://arxiv.org/abs/1408.5882).

Beyond the ends of a sentence stand zeros, in a padded sentence as in any other, and only windows around a token count.
"""

import keras

from restill.settings import StudentSettings
from restill.students.kind import Kind, Learned, Vectors
from restill.students.pooling import MaskedMax, UnitLength
from restill.students.tokens import tokens

WINDOWS = (1, 2, 3)


def _build(
    vocabulary_size: int, settings: StudentSettings, embeddings: Vectors | None, learned: Learned
) -> keras.Model:
    ids = keras.Input([None], dtype="int32", name="ids")
    vectors = tokens(vocabulary_size, settings, embeddings, learned)(ids)
    vectors = keras.layers.SpatialDropout1D(settings.dropout, name="dropout")(vectors)
    pooled = [
        MaskedMax(name=f"max_{window}")(
            keras.layers.Conv1D(
                settings.hidden_size, window, padding="same", activation="relu", name=f"window_{window}"
            )(vectors),
            ids,
        )
        for window in WINDOWS
    ]
    joined = keras.layers.Concatenate(name="joined")(pooled)
    return keras.Model(ids, UnitLength(name="unit")(joined), name="cnn")


KIND = Kind("Embedding, windows of 1 to 3 tokens, the largest value of each filter.", _build)
