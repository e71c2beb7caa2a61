"""Embedding → masked mean → tanh layers → unit length (Huang et al. 2013, https://doi.org/10.1145/2505515.2505665)."""

import keras

from restill.settings import StudentSettings
from restill.students.kind import Kind, Learned, Vectors
from restill.students.pooling import MaskedMean, UnitLength, WherePresent
from restill.students.tokens import tokens


def _build(
    vocabulary_size: int, settings: StudentSettings, embeddings: Vectors | None, learned: Learned
) -> keras.Model:
    ids = keras.Input([None], dtype="int32", name="ids")
    vectors = tokens(vocabulary_size, settings, embeddings, learned)(ids)
    vectors = keras.layers.SpatialDropout1D(settings.dropout, name="dropout")(vectors)
    pooled = MaskedMean(name="mean")(vectors, ids)
    for number in range(1, settings.layers + 1):
        pooled = keras.layers.Dense(settings.hidden_size, activation="tanh", name=f"layer_{number}")(pooled)
    pooled = WherePresent(name="present")(pooled, ids)  # biases would turn an empty sentence into some vector
    return keras.Model(ids, UnitLength(name="unit")(pooled), name="dssm")


KIND = Kind("Mean of the embeddings, then tanh layers.", _build)
