"""Embedding → bidirectional LSTM → masked mean, beside the weighted mean of the embeddings → unit length (after
Neculoiu et al. 2016, https://aclanthology.org/W16-1617; Tang et al. 2019, https://arxiv.org/abs/1903.12136).

The embeddings pass the LSTM by: a student starts as what `static` is, a weighted mean of its teacher's token vectors,
which is not bad, and the LSTM learns what a bag of tokens lacks. Its share starts small, nearly as that of residual
branches in ReZero (https://arxiv.org/abs/2003.04887): where pairs are few, a new LSTM is noise.

LiteRT runs an LSTM as a loop, and a step of the loop costs more than its arithmetic. So the exported form has one
loop for both directions and all sentences, with the input projection done before it. There is no list of states: the
loop adds them up, since only their mean is asked for. It ends with the longest sentence.

What a gate takes from a token depends on the token alone. In 8 bits, where the table of all tokens' projections is
small enough, that table is what is exported, and a look-up takes the place of the largest matrix product.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from restill.settings import StudentSettings
from restill.students.kind import Encode, Kind, Learned, Vectors
from restill.students.pooling import (
    MaskedMean,
    Share,
    TokenWeights,
    UnitLength,
    mean_of_sum,
    present_tokens,
    unit_length,
    weighted_mean,
)
from restill.students.tokens import NAME as TOKENS
from restill.students.tokens import Tokens, frozen_lookup, frozen_scalars, tokens
from restill.vocabulary import PAD_ID

_CLOSED = 1000.0  # far below any other input of a gate: its sigmoid is 0 exactly
_TABLE_BYTES = 32_000_000  # largest table of projections that is exported

Projection = Callable[[tf.Tensor], tf.Tensor]  # ids [directions, steps, sentences] → [directions, tokens, 4 · hidden]


def _build(
    vocabulary_size: int, settings: StudentSettings, embeddings: Vectors | None, learned: Learned
) -> keras.Model:
    ids = keras.Input([None], dtype="int32", name="ids")
    vectors = tokens(vocabulary_size, settings, embeddings, learned)(ids)
    vectors = keras.layers.SpatialDropout1D(settings.dropout, name="dropout")(vectors)
    lstm = keras.layers.Bidirectional(keras.layers.LSTM(settings.hidden_size, return_sequences=True), name="lstm")
    states = lstm(vectors, mask=keras.ops.not_equal(ids, PAD_ID))
    order = Share(name="order")(MaskedMean(name="mean")(states, ids))
    bag = TokenWeights(vocabulary_size, name="weights")(vectors, ids)
    pooled = keras.layers.Concatenate(name="beside")([order, bag])
    return keras.Model(ids, UnitLength(name="unit")(pooled), name="siamese-lstm")


def _serving(model: keras.Model, int8: bool) -> Encode:
    look_up = model.get_layer(TOKENS)
    layer = model.get_layer("lstm")
    cells = [layer.forward_layer.cell, layer.backward_layer.cell]
    hidden = cells[0].units
    inputs, recurrent, biases = (
        np.stack([_sigmoids_first(getattr(cell, name).numpy()) for cell in cells])
        for name in ("kernel", "recurrent_kernel", "bias")
    )
    folded = int8 and 2 * inputs.shape[-1] * look_up.input_dim <= _TABLE_BYTES
    weigh = frozen_scalars(np.exp(model.get_layer("weights").logarithms.numpy()))
    share = float(model.get_layer("order").share.numpy())
    project = (_folded if folded else _multiplied)(look_up, inputs, biases)

    def encode(ids: tf.Tensor) -> tf.Tensor:
        sentences, steps = tf.shape(ids)[0], tf.shape(ids)[1]
        present = present_tokens(ids)
        lengths = tf.cast(tf.reduce_sum(present, axis=1), tf.int32)
        # Each direction starts with a token, so that both meet padding last.
        both = tf.stack([ids, tf.reverse_sequence(ids, lengths, seq_axis=1)])
        projected = project(tf.transpose(both, [0, 2, 1]))
        # 8-bit products are fastest one row at a time, float ones with the sentences as rows.
        row = [1] if int8 else []
        kernel = recurrent[:, np.newaxis] if int8 else recurrent
        projected = tf.reshape(projected, [2, steps, sentences, *row, 4 * hidden])
        # Zeros of the right shape. tf.zeros would make a shape that LiteRT learns only while it runs, and then every
        # step of the loop would allocate.
        zeros = projected[:, 0, ..., :hidden] * 0.0

        def step(
            position: tf.Tensor, states: tf.Tensor, memory: tf.Tensor, total: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            gates = tf.gather(projected, position, axis=1) + tf.matmul(states, kernel)
            opened = tf.sigmoid(gates[..., : 3 * hidden])
            admit, keep, emit = (opened[..., part * hidden : (part + 1) * hidden] for part in range(3))
            memory = keep * memory + admit * tf.tanh(gates[..., 3 * hidden :])
            states = emit * tf.tanh(memory)
            return position + 1, states, memory, total + states

        longest = tf.reduce_max(lengths)
        total = tf.while_loop(lambda position, *_: position < longest, step, (0, zeros, zeros, zeros))[3]
        if int8:
            total = tf.squeeze(total, 2)
        order = mean_of_sum(tf.concat([total[0], total[1]], axis=-1), present) * share
        return unit_length(tf.concat([order, weighted_mean(look_up(ids), weigh(ids), ids)], axis=-1))

    return encode


def _multiplied(look_up: Tokens, inputs: Vectors, biases: Vectors) -> Projection:
    """Return the input projection as a product with ``inputs [directions, size, 4 · hidden]``."""
    # One more input, which only padding sets, closes the output gate. A state behind the end of a sentence is then
    # 0 and adds nothing to the sum, for the price of no operation in the loop. The weight stays within the range of
    # the others, or 8 bits would be spent on it.
    weight = max(float(np.abs(inputs).max()), 1e-3)
    closing = np.zeros((2, 1, inputs.shape[-1]), np.float32)
    closing[:, :, _emit(inputs.shape[-1])] = -weight
    inputs = np.concatenate([inputs, closing], axis=1)

    def project(ids: tf.Tensor) -> tf.Tensor:
        padding = tf.expand_dims((1.0 - present_tokens(ids)) * (_CLOSED / weight), -1)
        vectors = tf.concat([look_up(ids), padding], axis=-1)
        return tf.matmul(tf.reshape(vectors, [2, -1, inputs.shape[1]]), inputs) + biases[:, np.newaxis]

    return project


def _folded(look_up: Tokens, inputs: Vectors, biases: Vectors) -> Projection:
    """Return the input projection as a look-up in a table of every token's, in 8 bits."""
    tables = look_up.table @ inputs + biases[:, np.newaxis]  # [directions, vocabulary, 4 · hidden]
    tables[:, PAD_ID] = 0.0
    tables[:, PAD_ID, _emit(tables.shape[-1])] = -_CLOSED  # a closed output gate: the state is 0 and adds nothing
    forward, backward = (frozen_lookup(table, int8=True) for table in tables)

    def project(ids: tf.Tensor) -> tf.Tensor:
        projected = tf.stack([forward(ids[0]), backward(ids[1])])
        return tf.reshape(projected, [2, -1, tables.shape[-1]])

    return project


def _emit(gates: int) -> slice:
    """Return where, among the gates of a step, the output gates are."""
    return slice(gates // 2, gates * 3 // 4)


def _sigmoids_first(gates: Vectors) -> Vectors:
    """Reorder Keras's gates (input, forget, candidate, output): the three sigmoids are then one operation."""
    admit, keep, candidate, emit = np.split(gates, 4, axis=-1)
    return np.concatenate([admit, keep, emit, candidate], axis=-1)


KIND = Kind(
    "Bidirectional LSTM over the embeddings: mean of its states, and of the embeddings beside it.", _build, _serving
)
