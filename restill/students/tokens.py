"""Token embeddings: a table to learn, and the frozen table that an export looks them up in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from restill.settings import StudentSettings
from restill.students.kind import Vectors
from restill.vocabulary import PAD_ID

NAME = "tokens"
_SCALE_STEP = 2.0**-20  # scales of int8 rows are whole multiples of it


class Tokens(keras.layers.Embedding):
    """Look token embeddings up; padding gives zeros, whatever its row of the table holds. Passes no Keras mask on."""

    _frozen: Callable[[tf.Tensor], tf.Tensor] | None = None

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, steps, size]`` for ids ``[batch, steps]``."""
        if self._frozen is not None:
            return self._frozen(ids)
        return super().call(ids) * tf.expand_dims(tf.cast(tf.not_equal(ids, PAD_ID), tf.float32), -1)

    @contextmanager
    def frozen(self, *, int8: bool) -> Iterator[None]:
        """Within, calls look constants up: what is traced then holds the table, in 8 bits if asked for."""
        table = self.embeddings.numpy().copy()
        table[PAD_ID] = 0.0
        self._frozen = frozen_lookup(table, int8=int8)
        try:
            yield
        finally:
            self._frozen = None


def tokens(vocabulary_size: int, settings: StudentSettings, embeddings: Vectors | None) -> Tokens:
    """Return the embedding layer of a student, from given values or drawn (Glorot-normal)."""
    layer = Tokens(
        vocabulary_size,
        settings.embedding_size,
        embeddings_initializer=keras.initializers.GlorotNormal(),
        name=NAME,
    )
    layer.build()
    if embeddings is not None:
        layer.embeddings.assign(embeddings)
    return layer


def frozen_lookup(table: Vectors, *, int8: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a lookup in a constant table ``[vocabulary, size]``.

    In 8 bits each row has a scale of its own: the converter would take one for the whole table, and one large value
    would cost every other token its precision. It would also unpack the whole table in memory; here only the rows
    that are looked up become floats.
    """
    if not int8:
        return lambda ids: tf.gather(table, ids)
    rows, scales = quantise_rows(table)

    def lookup(ids: tf.Tensor) -> tf.Tensor:
        scale = tf.cast(tf.gather(scales, ids), tf.float32) * _SCALE_STEP
        return tf.cast(tf.gather(rows, ids), tf.float32) * scale

    return lookup


def quantise_rows(table: Vectors) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Return int8 rows ``[vocabulary, size]`` and their scales ``[vocabulary, 1]`` in multiples of 2⁻²⁰.

    Whole numbers, because the converter takes a table of float scales for weights and quantises it too.
    """
    largest = np.abs(table).max(axis=1, keepdims=True, initial=0.0)
    scales = np.maximum(np.ceil(largest / 127 / _SCALE_STEP), 1)
    return np.round(table / (scales * _SCALE_STEP)).astype(np.int8), scales.astype(np.int32)
