"""BERT's encoder as TensorFlow variables: token ids in, one unit vector per sentence or one logit per pair out.

References: Devlin et al., 2018, https://arxiv.org/abs/1810.04805; Reimers and Gurevych, 2019,
https://arxiv.org/abs/1908.10084 (pooling); Lan et al., 2019, https://arxiv.org/abs/1909.11942 (factorised embeddings).
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from restill.settings.teaching import Pooling, Precision
from restill.teachers.config import BertConfig
from restill.teachers.weights import CLASSIFIER, MAPPING, POOLER, Array


class Dense(tf.Module):  # TensorFlow publishes no types
    """A dense layer, or several with one input joined into one matrix product."""

    def __init__(
        self,
        weights: Mapping[str, Array],
        *parts: str,
        precision: Precision = "float32",
        trainable: bool = False,
    ) -> None:
        """Copy `<part>.weight`, `[out, in]`, and `<part>.bias` of each part, whose outputs are concatenated."""
        super().__init__()
        self._dtype = tf.dtypes.as_dtype(precision)
        kernel = np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([weights[f"{part}.bias"] for part in parts])
        self.kernel = tf.Variable(kernel, trainable=trainable, dtype=self._dtype)
        self.bias = tf.Variable(bias, trainable=trainable, dtype=self._dtype)

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return ``[rows, out]`` in the layer's precision for ``[rows, in]`` in any."""
        return tf.nn.bias_add(tf.matmul(tf.cast(inputs, self._dtype), self.kernel), self.bias)


class LayerNorm(tf.Module):
    """Layer normalisation over the last axis, in float32."""

    def __init__(self, weights: Mapping[str, Array], part: str, *, epsilon: float, trainable: bool = False) -> None:
        """Copy `<part>.weight` and `<part>.bias`."""
        super().__init__()
        self._epsilon = epsilon
        self.scale = tf.Variable(weights[f"{part}.weight"], trainable=trainable)
        self.shift = tf.Variable(weights[f"{part}.bias"], trainable=trainable)

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return float32 of the same shape."""
        centred = inputs - tf.reduce_mean(inputs, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        return centred * tf.math.rsqrt(variance + self._epsilon) * self.scale + self.shift


class BertLayer(tf.Module):
    """One encoder layer: self-attention and a two-layer network, each added to its input and normalised."""

    def __init__(
        self,
        config: BertConfig,
        weights: Mapping[str, Array],
        number: int,
        *,
        precision: Precision = "float32",
        trainable: bool = False,
    ) -> None:
        """Copy the weights of one layer into variables.

        Args:
            config: sizes of the encoder.
            weights: as `TeacherFiles.read_weights` returns them.
            number: which layer, from 0.
            precision: type of the matrix products; normalisation and softmax stay in float32.
            trainable: whether the variables are; a layer that is trained needs precision float32.
        """
        super().__init__(name=f"layer_{number}")
        self._heads = config.num_attention_heads
        self._dtype = tf.dtypes.as_dtype(precision)
        layer = f"encoder.layer.{number}"

        def dense(*parts: str) -> Dense:
            names = (f"{layer}.{part}" for part in parts)
            return Dense(weights, *names, precision=precision, trainable=trainable)

        def norm(part: str) -> LayerNorm:
            return LayerNorm(weights, f"{layer}.{part}", epsilon=config.layer_norm_eps, trainable=trainable)

        self._query_key_value = dense("attention.self.query", "attention.self.key", "attention.self.value")
        self._attended = dense("attention.output.dense")
        self._attended_norm = norm("attention.output.LayerNorm")
        self._inner = dense("intermediate.dense")
        self._outer = dense("output.dense")
        self._outer_norm = norm("output.LayerNorm")

    def __call__(self, hidden: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
        """Compute the layer.

        Args:
            hidden: float32 ``[batch · tokens, hidden]``. Flat rows let every dense layer be one matrix product,
                with its bias and gelu fused on a CPU.
            penalty: float32 ``[batch, 1, 1, tokens]``, as `attention_penalty` returns it.

        Returns: float32 ``[batch · tokens, hidden]``.
        """
        attended = self._attend(self._query_key_value(hidden), penalty)
        hidden = self._attended_norm(hidden + tf.cast(self._attended(attended), tf.float32))
        inner = tf.nn.gelu(self._inner(hidden), approximate=False)
        return self._outer_norm(hidden + tf.cast(self._outer(inner), tf.float32))

    def _attend(self, joined: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
        """Return attention over each row's own tokens, ``[batch · tokens, hidden]``."""
        size = joined.shape[-1] // 3 // self._heads
        split = tf.reshape(joined, [tf.shape(penalty)[0], tf.shape(penalty)[3], 3, self._heads, size])
        query, key, value = tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]))
        # Scaled before the product, not after it, because the sums could exceed float16's 65,504.
        scores = tf.matmul(query * tf.cast(size**-0.5, self._dtype), key, transpose_b=True)
        # The penalty is far outside float16, so it is added in float32.
        shares = tf.nn.softmax(tf.cast(scores, tf.float32) + penalty)
        attended = tf.matmul(tf.cast(shares, self._dtype), value)
        return tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), [-1, self._heads * size])


class BertEncoder(tf.Module):
    """A frozen BERT with its output: no variable of it is trainable."""

    def __init__(
        self,
        config: BertConfig,
        weights: Mapping[str, Array],
        *,
        pooling: Pooling,
        labels: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Copy the weights into variables.

        Args:
            config: sizes of the encoder.
            weights: as `TeacherFiles.read_weights` returns them.
            pooling: how token vectors become one vector.
            labels: logits of the classifier on the pooled vector, 1 or 2: the output is then a logit, not a
                unit vector.
            precision: type of the encoder's matrix products; normalisation, softmax, pooling and classifier
                stay in float32.
        """
        super().__init__(name="bert")
        self._pooling = pooling
        self._labels = labels

        def table(name: str) -> tf.Variable:
            return tf.Variable(weights[f"embeddings.{name}.weight"], trainable=False)

        self.word_embeddings = table("word_embeddings")
        self._positions = table("position_embeddings")
        self._segments = table("token_type_embeddings")
        self._embedding_norm = LayerNorm(weights, "embeddings.LayerNorm", epsilon=config.layer_norm_eps)
        factorised = config.embedding_width != config.hidden_size
        self._mapping = Dense(weights, MAPPING, precision=precision) if factorised else None
        self.layers = [
            BertLayer(config, weights, number, precision=precision) for number in range(config.num_hidden_layers)
        ]
        self._pooler = Dense(weights, POOLER) if pooling in ("pooler", "pooler-tanh") else None
        self._classifier = Dense(weights, CLASSIFIER) if labels is not None else None
        matrix = tf.TensorSpec([None, None], tf.int32)
        # One trace for all shapes: the signatures are as wide as they can be. AutoGraph would read all of this code for
        # branches on tensors, which it does not have, for seconds.
        self._traced: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] = tf.function(
            self.compute, input_signature=[matrix, tf.TensorSpec([None], tf.int32), matrix], autograph=False
        )

    def __call__(
        self, ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32], segments: npt.NDArray[np.int32]
    ) -> Array:
        """Return unit vectors ``[batch, hidden]`` or logits ``[batch, 1]``, float32; arguments as in `compute`."""
        outputs: Array = self._traced(tf.constant(ids), tf.constant(lengths), tf.constant(segments)).numpy()
        return outputs

    def compute(self, ids: tf.Tensor, lengths: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
        """Compute one output per row.

        Args:
            ids: int32 ``[batch, tokens]``, rows padded on the right with any id.
            lengths: int32 ``[batch]``, tokens per row that are not padding, at least 1.
            segments: int32 ``[batch, tokens]``, 0, or 1 for a pair's second side.

        Returns: float32, L2-normalised ``[batch, hidden]`` (a zero vector stays zero); with a classifier
            ``[batch, 1]``, the only logit or the second less the first.
        """
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1], dtype=tf.float32)
        hidden, penalty = self.embed(ids, segments), attention_penalty(mask)
        for layer in self.layers:
            hidden = layer(hidden, penalty)
        pooled = self.pool(hidden, mask)
        if self._classifier is None:
            return pooled / tf.maximum(tf.norm(pooled, axis=1, keepdims=True), 1e-12)
        logits = self._classifier(pooled)
        return logits if self._labels == 1 else logits[:, 1:] - logits[:, :1]

    def embed(self, ids: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
        """Return the first layer's input, float32 ``[batch · tokens, hidden]``; arguments as in `compute`."""
        summed = tf.gather(self.word_embeddings, ids) + tf.gather(self._segments, segments)
        summed += self._positions[: tf.shape(ids)[1]]
        hidden = self._embedding_norm(tf.reshape(summed, [-1, summed.shape[-1]]))
        return hidden if self._mapping is None else tf.cast(self._mapping(hidden), tf.float32)

    def pool(self, hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Return one vector per row, not normalised, float32 ``[batch, hidden]``.

        Args:
            hidden: the last layer's output, float32 ``[batch · tokens, hidden]``.
            mask: float32 ``[batch, tokens]``, 1 for a token and 0 for padding.
        """
        hidden = tf.reshape(hidden, [tf.shape(mask)[0], tf.shape(mask)[1], hidden.shape[-1]])
        if self._pooling == "mean":
            return tf.einsum("bth,bt->bh", hidden, mask) / tf.reduce_sum(mask, axis=1, keepdims=True)
        first = hidden[:, 0]
        if self._pooler is None:
            return first
        pooled = self._pooler(first)
        return tf.tanh(pooled) if self._pooling == "pooler-tanh" else pooled


def attention_penalty(mask: tf.Tensor) -> tf.Tensor:
    """Return what is added to attention scores so that padding gets none: float32 ``[batch, 1, 1, tokens]``.

    It is finite, unlike -inf, so that no row can become NaN; softmax makes exactly 0 of it.

    Args:
        mask: float32 ``[batch, tokens]``, 1 for a token and 0 for padding.
    """
    # One axis at a time: LiteRT, which a successor is exported to, cannot add two at once.
    return tf.expand_dims(tf.expand_dims((1.0 - mask) * -1e9, 1), 1)
