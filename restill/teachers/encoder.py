"""BERT's encoder as frozen TensorFlow variables: token ids in, one unit vector per sentence out.

References: Devlin et al., 2018, https://arxiv.org/abs/1810.04805; Reimers and Gurevych, 2019,
https://arxiv.org/abs/1908.10084 (pooling).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from safetensors import SafetensorError, safe_open

from restill.errors import TeacherError
from restill.teachers.files import BertConfig, Pooling, Precision

Array = npt.NDArray[np.float32]

_LAYER_PARTS = {
    "attention.self.query": ("hidden", "hidden"),
    "attention.self.key": ("hidden", "hidden"),
    "attention.self.value": ("hidden", "hidden"),
    "attention.output.dense": ("hidden", "hidden"),
    "intermediate.dense": ("inner", "hidden"),
    "output.dense": ("hidden", "inner"),
}


class BertEncoder(tf.Module):  # TensorFlow publishes no types
    """A frozen BERT encoder with pooling: no variable of it is trainable."""

    def __init__(self, config: BertConfig, weights: dict[str, Array], pooling: Pooling, precision: Precision) -> None:
        """Copy the weights into variables.

        Args:
            config: sizes of the encoder.
            weights: float32 arrays by their name in the checkpoint, as `read_weights` returns them.
            pooling: how token vectors become one vector.
            precision: type of the matrix products; normalisation, softmax and pooling stay in float32.
        """
        super().__init__(name="bert")
        self._heads = config.num_attention_heads
        self._epsilon = config.layer_norm_eps
        self._pooling = pooling
        self._dtype = tf.dtypes.as_dtype(precision)

        def variable(value: Array, dtype: tf.DType = tf.float32) -> tf.Variable:
            return tf.Variable(value, trainable=False, dtype=dtype)

        def dense(*parts: str) -> tuple[tf.Variable, tf.Variable]:
            kernel = np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1)
            bias = np.concatenate([weights[f"{part}.bias"] for part in parts])
            return variable(kernel, self._dtype), variable(bias, self._dtype)

        def norm(part: str) -> tuple[tf.Variable, tf.Variable]:
            return variable(weights[f"{part}.weight"]), variable(weights[f"{part}.bias"])

        self._words = variable(weights["embeddings.word_embeddings.weight"])
        # A sentence alone is always segment 0, so that segment's vector is added to the positions once.
        segment = weights["embeddings.token_type_embeddings.weight"][0]
        self._positions = variable(weights["embeddings.position_embeddings.weight"] + segment)
        self._embedding_norm = norm("embeddings.LayerNorm")
        self._layers = []
        for number in range(config.num_hidden_layers):
            layer = f"encoder.layer.{number}"
            attention = f"{layer}.attention.self"
            self._layers.append(
                {
                    "query_key_value": dense(f"{attention}.query", f"{attention}.key", f"{attention}.value"),
                    "attended": dense(f"{layer}.attention.output.dense"),
                    "attended_norm": norm(f"{layer}.attention.output.LayerNorm"),
                    "inner": dense(f"{layer}.intermediate.dense"),
                    "outer": dense(f"{layer}.output.dense"),
                    "outer_norm": norm(f"{layer}.output.LayerNorm"),
                }
            )
        # One trace for all shapes: the two signatures are as wide as they can be.
        self._traced: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = tf.function(
            self.embed,
            input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)],
        )

    def __call__(self, ids: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> Array:
        """Return unit vectors, float32 ``[batch, hidden]``; arguments as in `embed`."""
        embeddings: Array = self._traced(tf.constant(ids), tf.constant(lengths)).numpy()
        return embeddings

    def embed(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Compute one vector per row; a zero vector stays zero.

        Args:
            ids: int32 ``[batch, tokens]``, rows padded on the right with any id.
            lengths: int32 ``[batch]``, tokens per row that are not padding, at least 1.

        Returns: float32 ``[batch, hidden]``, L2-normalised.
        """
        batch, tokens = tf.unstack(tf.shape(ids))
        mask = tf.sequence_mask(lengths, tokens, dtype=tf.float32)
        # Finite, unlike -inf, so that no row can become NaN; softmax makes exactly 0 of it.
        penalty = ((1.0 - mask) * -1e9)[:, tf.newaxis, tf.newaxis, :]
        hidden = tf.gather(self._words, ids) + self._positions[:tokens]
        width = hidden.shape[-1]
        # Flat rows let every dense layer be one matrix product, with its bias and gelu fused on a CPU.
        hidden = self._norm(tf.reshape(hidden, [-1, width]), self._embedding_norm)
        for layer in self._layers:
            attended = self._attend(self._dense(hidden, layer["query_key_value"]), penalty, batch, tokens)
            hidden = self._norm(hidden + self._wide(self._dense(attended, layer["attended"])), layer["attended_norm"])
            inner = tf.nn.gelu(self._dense(hidden, layer["inner"]), approximate=False)
            hidden = self._norm(hidden + self._wide(self._dense(inner, layer["outer"])), layer["outer_norm"])
        hidden = tf.reshape(hidden, [batch, tokens, width])
        if self._pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = tf.einsum("bth,bt->bh", hidden, mask) / tf.reduce_sum(mask, axis=1, keepdims=True)
        return pooled / tf.maximum(tf.norm(pooled, axis=1, keepdims=True), 1e-12)

    def _attend(self, joined: tf.Tensor, penalty: tf.Tensor, batch: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        """Return attention over each row's own tokens, ``[batch · tokens, hidden]``."""
        size = joined.shape[-1] // 3 // self._heads
        split = tf.transpose(tf.reshape(joined, [batch, tokens, 3, self._heads, size]), [2, 0, 3, 1, 4])
        query, key, value = tf.unstack(split)
        scores = self._wide(tf.matmul(query, key, transpose_b=True)) * (size**-0.5) + penalty
        attended = tf.matmul(tf.cast(tf.nn.softmax(scores), self._dtype), value)
        return tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), [-1, self._heads * size])

    def _dense(self, inputs: tf.Tensor, layer: tuple[tf.Variable, tf.Variable]) -> tf.Tensor:
        return tf.nn.bias_add(tf.matmul(tf.cast(inputs, self._dtype), layer[0]), layer[1])

    def _wide(self, values: tf.Tensor) -> tf.Tensor:
        return tf.cast(values, tf.float32)

    def _norm(self, inputs: tf.Tensor, layer: tuple[tf.Variable, tf.Variable]) -> tf.Tensor:
        mean = tf.reduce_mean(inputs, axis=-1, keepdims=True)
        centred = inputs - mean
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        return centred * tf.math.rsqrt(variance + self._epsilon) * layer[0] + layer[1]


def expected_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every checkpoint variable that the encoder needs, by name without `bert.`."""
    hidden = config.hidden_size
    sizes = {"hidden": hidden, "inner": config.intermediate_size}
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, hidden),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
    }
    norms = ["embeddings.LayerNorm"]
    for number in range(config.num_hidden_layers):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for part, (rows, columns) in _LAYER_PARTS.items():
            shapes[f"{layer}.{part}.weight"] = (sizes[rows], sizes[columns])
            shapes[f"{layer}.{part}.bias"] = (sizes[rows],)
    for part in norms:
        shapes |= {f"{part}.weight": (hidden,), f"{part}.bias": (hidden,)}
    return shapes


def read_weights(path: Path, config: BertConfig) -> dict[str, Array]:
    """Read the encoder's variables from a safetensors file as float32.

    Accepts float16, bfloat16, float32 and float64, names with or without `bert.`, and the older names gamma
    and beta of normalisation layers. Variables that the encoder does not use are not read.

    Raises: TeacherError if the file is damaged, or variables are missing or of another shape.
    """
    expected = expected_shapes(config)
    weights: dict[str, Array] = {}
    wrong: list[str] = []
    try:
        with safe_open(path, "np") as file:
            for stored in file.keys():  # noqa: SIM118 - not a mapping, it cannot be iterated
                name = stored.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias")
                if name not in expected:
                    continue
                shape = tuple(file.get_slice(stored).get_shape())
                if shape != expected[name]:
                    wrong.append(f"{name} has shape {shape} instead of {expected[name]}")
                    continue
                weights[name] = file.get_tensor(stored).astype(np.float32)
    except (SafetensorError, OSError) as error:
        raise TeacherError(
            f"{path} is not a readable safetensors file: {error}.", hint="Fetch the file again."
        ) from error
    missing = [name for name in expected if name not in weights]
    if wrong or missing:
        faults = wrong or [f"missing {', '.join(missing)}"]
        raise TeacherError(
            f"{path} does not hold the encoder that config.json describes: {'; '.join(faults)}.",
            hint="Weights and config.json must come from the same model.",
        )
    return weights
