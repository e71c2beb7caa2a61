"""Token embeddings: a table to learn, and the frozen table that an export looks them up in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from restill.settings import StudentSettings
from restill.students.kind import Learned, Vectors
from restill.vocabulary import PAD_ID

NAME = "tokens"
_SCALE_STEP = 2.0**-20  # scales of int8 rows are whole multiples of it


class Tokens(keras.layers.Layer):
    """Look token embeddings up; padding gives zeros, whatever its row of the table holds. Passes no Keras mask on.

    Rows of tokens that the corpus has are learned. Those of other tokens stay as they are: no step would change them,
    and an optimizer that touched them would take as long as for the rest.
    """

    _frozen: Callable[[tf.Tensor], tf.Tensor] | None = None

    def __init__(self, table: Vectors, learned: Learned = None, **options: Any) -> None:
        """Make a layer from a table.

        Args:
            table: first values, ``[vocabulary, size]``.
            learned: ``[vocabulary]``, which rows are trained; None: all.
            options: of a Keras layer.
        """
        super().__init__(**options)
        chosen = np.ones(len(table), np.bool_) if learned is None else learned
        self.input_dim, self.output_dim = table.shape
        self._order = np.argsort(~chosen, kind="stable")  # the learned rows first
        self._places = np.argsort(self._order).astype(np.int32)  # where in that order a token is
        self._learned = int(chosen.sum())
        self.embeddings = self._rows("embeddings", table[chosen], trainable=True)
        self.others = self._rows("others", table[~chosen], trainable=False) if self._learned < len(table) else None

    def _rows(self, name: str, values: Vectors, *, trainable: bool) -> keras.Variable:
        return self.add_weight(
            name=name, shape=values.shape, initializer=lambda *_, **__: tf.constant(values), trainable=trainable
        )

    @property
    def table(self) -> Vectors:
        """Return the present values of all rows, ``[vocabulary, size]``."""
        rows: Vectors = self.embeddings.numpy()
        if self.others is not None:
            rows = np.concatenate([rows, self.others.numpy()])[self._places]
        return rows

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, steps, size]`` for ids ``[batch, steps]``."""
        if self._frozen is not None:
            return self._frozen(ids)
        if self.others is None:
            vectors = tf.gather(self.embeddings, ids)
        else:
            places = tf.gather(self._places, ids)
            learned = tf.gather(self.embeddings, tf.minimum(places, self._learned - 1))
            other = tf.gather(self.others, tf.maximum(places - self._learned, 0))
            vectors = tf.where(tf.expand_dims(places < self._learned, -1), learned, other)
        return vectors * tf.expand_dims(tf.cast(tf.not_equal(ids, PAD_ID), tf.float32), -1)

    @contextmanager
    def frozen(self, *, int8: bool) -> Iterator[None]:
        """Within, calls look constants up: what is traced then holds the table, in 8 bits if asked for."""
        table = self.table.copy()
        table[PAD_ID] = 0.0
        self._frozen = frozen_lookup(table, int8=int8)
        try:
            yield
        finally:
            self._frozen = None


def tokens(
    vocabulary_size: int,
    settings: StudentSettings,
    embeddings: Vectors | None,
    learned: Learned = None,
) -> Tokens:
    """Return the embedding layer of a student, from given values or drawn (Glorot-normal)."""
    if embeddings is None:
        shape = (vocabulary_size, settings.embedding_size)
        embeddings = np.asarray(keras.initializers.GlorotNormal()(shape), np.float32)
    return Tokens(embeddings, learned, name=NAME)


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


def frozen_scalars(values: NDArray[np.floating]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a lookup of constants ``[vocabulary]`` ≥ 0; as whole multiples of 2⁻²⁰, see `quantise_rows`."""
    multiples = np.round(values / _SCALE_STEP).astype(np.int32)
    return lambda ids: tf.cast(tf.gather(multiples, ids), tf.float32) * _SCALE_STEP


def quantise_rows(table: Vectors) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Return int8 rows ``[vocabulary, size]`` and their scales ``[vocabulary, 1]`` in multiples of 2⁻²⁰.

    Whole numbers, because the converter takes a table of float scales for weights and quantises it too.
    """
    largest = np.abs(table).max(axis=1, keepdims=True, initial=0.0)
    scales = np.maximum(np.ceil(largest / 127 / _SCALE_STEP), 1)
    return np.round(table / (scales * _SCALE_STEP)).astype(np.int8), scales.astype(np.int32)
