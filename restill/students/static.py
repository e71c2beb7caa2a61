"""Embedding → mean weighted by a learned scalar a token → unit length (as in Arora et al. 2017,
https://openreview.net/forum?id=SyK00v5xx, whose weights are the tokens' frequencies).

The length is divided out at the end, so the exported form sums rows that carry their weight already: a lookup, a sum.
"""

import keras
import numpy as np
import tensorflow as tf

from restill.settings import StudentSettings
from restill.students.kind import Encode, Kind, Learned, Vectors
from restill.students.pooling import TokenWeights, UnitLength, unit_length
from restill.students.tokens import NAME as TOKENS
from restill.students.tokens import frozen_lookup, tokens
from restill.vocabulary import PAD_ID


def _build(
    vocabulary_size: int, settings: StudentSettings, embeddings: Vectors | None, learned: Learned
) -> keras.Model:
    ids = keras.Input([None], dtype="int32", name="ids")
    vectors = tokens(vocabulary_size, settings, embeddings, learned)(ids)
    vectors = keras.layers.SpatialDropout1D(settings.dropout, name="dropout")(vectors)
    pooled = TokenWeights(vocabulary_size, name="weights")(vectors, ids)
    return keras.Model(ids, UnitLength(name="unit")(pooled), name="static")


def _serving(model: keras.Model, int8: bool) -> Encode:
    logarithms = model.get_layer("weights").logarithms.numpy()
    weighted = model.get_layer(TOKENS).table * np.exp(logarithms)[:, np.newaxis]
    # Largest value 1: a sum must not come near the epsilon that keeps an empty sentence from dividing by 0.
    weighted /= max(float(np.abs(weighted).max()), 1e-30)
    weighted[PAD_ID] = 0.0
    look_up = frozen_lookup(weighted, int8=int8)
    return lambda ids: unit_length(tf.reduce_sum(look_up(ids), axis=1))


KIND = Kind("Weighted mean of the embeddings, one learned weight a token.", _build, _serving)
