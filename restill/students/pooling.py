"""From the vectors of a sentence's tokens to one vector of length 1. Padding, id 0, never counts."""

import keras
import tensorflow as tf

from restill.vocabulary import PAD_ID


class UnitLength(keras.layers.Layer):
    """Scale vectors to length 1; a zero vector stays zero, so its cosine with anything is 0 and never NaN."""

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, size]`` vectors of length 1 (or 0)."""
        return unit_length(vectors)


class MaskedMean(keras.layers.Layer):
    """Mean over the steps that are not padding; no steps at all give a zero vector."""

    supports_masking = True  # the ids say it all: an LSTM's mask is no news

    def call(self, states: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Pool ``[batch, steps, size]`` states to ``[batch, size]`` where ``ids[batch, steps]`` is not padding."""
        present = present_tokens(ids)
        return mean_of_sum(tf.reduce_sum(states * tf.expand_dims(present, -1), axis=1), present)

    def compute_mask(self, *_: object) -> None:
        """End masking here: the steps are gone."""
        return


class MaskedMax(keras.layers.Layer):
    """Largest value over the steps that are not padding, for values ≥ 0; no steps at all give a zero vector."""

    def call(self, states: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Pool ``[batch, steps, size]`` states ≥ 0 to ``[batch, size]`` where ``ids[batch, steps]`` is not padding."""
        return tf.reduce_max(states * tf.expand_dims(present_tokens(ids), -1), axis=1)


class WherePresent(keras.layers.Layer):
    """Keep the vectors of sentences with a token, and make the others zero."""

    def call(self, vectors: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, size]`` vectors, zero where ids ``[batch, steps]`` are nothing but padding."""
        return vectors * tf.reduce_max(present_tokens(ids), axis=1, keepdims=True)


class TokenWeights(keras.layers.Layer):
    """One positive weight a token, e^w with a learned w that starts at 0: an even mean."""

    def __init__(self, vocabulary_size: int, **options: object) -> None:
        super().__init__(**options)
        self.logarithms = self.add_weight(shape=[vocabulary_size], initializer="zeros", name="logarithms")

    def call(self, vectors: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Return the weighted mean ``[batch, size]`` of ``[batch, steps, size]`` over what is not padding."""
        return weighted_mean(vectors, tf.exp(tf.gather(tf.convert_to_tensor(self.logarithms), ids)), ids)


class Share(keras.layers.Layer):
    """How much a branch counts beside another: a learned factor that starts small."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.share = self.add_weight(shape=[], initializer=keras.initializers.Constant(0.1), name="share")

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """Return the vectors, scaled."""
        return vectors * tf.convert_to_tensor(self.share)


def weighted_mean(vectors: tf.Tensor, weights: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Return the mean ``[batch, size]`` of ``[batch, steps, size]``, weighted by ``[batch, steps]`` without padding."""
    weights *= present_tokens(ids)
    total = tf.reduce_sum(vectors * tf.expand_dims(weights, -1), axis=1)
    return total / tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 1e-6)


def present_tokens(ids: tf.Tensor) -> tf.Tensor:
    """Return 1.0 where ids ``[batch, steps]`` hold a token and 0.0 where they pad."""
    return tf.cast(tf.not_equal(ids, PAD_ID), tf.float32)


def mean_of_sum(total: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Divide sums ``[batch, size]`` over a sentence's tokens by their number; by 1 if there are none."""
    return total / tf.expand_dims(tf.maximum(tf.reduce_sum(present, axis=1), 1.0), -1)


def unit_length(vectors: tf.Tensor) -> tf.Tensor:
    """Scale vectors ``[batch, size]`` to length 1; a zero vector stays zero."""
    return tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-12)
