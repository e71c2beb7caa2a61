"""A shallow BERT made from its teacher, the successor of BERT-of-Theseus (Xu et al. 2020,
https://arxiv.org/abs/2002.02925).

The teacher's layers fall into as many groups as the successor has layers; a layer and the group it succeeds are a
module. While the successor learns, each step draws for each module whether its layer runs, or the frozen group in
its stead: gradients reach a layer through the teacher's own layers above it, and it learns to do the work of its
group. When every module is replaced, nothing of the teacher is left.

The successor starts from the teacher's first layers, as in the paper: neighbours that were trained on each other's
outputs, where one layer of each group would be fed what it has never seen. Embeddings and pooling are the teacher's
too, so its vectors are as wide, and with no module replaced it is the teacher.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from restill.errors import ConfigurationError
from restill.settings import StudentSettings
from restill.settings.teaching import Pooling
from restill.students.kind import Kind, Learned, Vectors
from restill.students.pooling import mean_of_sum, present_tokens, unit_length
from restill.students.tokens import tokens
from restill.teachers import TeacherFiles
from restill.teachers.config import BertConfig
from restill.teachers.encoder import BertLayer, Dense, LayerNorm, attention_penalty
from restill.teachers.weights import MAPPING, POOLER, Array

_WORDS = "embeddings.word_embeddings.weight"
_BODY = "successor"  # name of the layer that holds all but the token embeddings


@dataclass(frozen=True)
class Predecessor:
    """The teacher that a successor is made from.

    Attributes:
        config: its sizes, with the student's vocabulary.
        weights: by the names of `restill.teachers.weights`; word embeddings ``[student's vocabulary, width]``.
        pooling: how its token vectors become one.
        is_replaced: whether its layers stay, frozen, to be replaced one module at a time (schedule `theseus`).
    """

    config: BertConfig
    weights: Mapping[str, Array]
    pooling: Pooling
    is_replaced: bool = False

    @classmethod
    def read(cls, teacher: TeacherFiles, token_ids: NDArray[np.integer], *, is_replaced: bool) -> Self:
        """Read a bi-encoder's weights, its word embeddings cut to a student's vocabulary.

        Args:
            teacher: the directory.
            token_ids: the teacher's id of each entry of the student's vocabulary.
            is_replaced: see the class.
        Raises: TeacherError if the files are damaged.
        """
        weights = teacher.read_weights()
        weights[_WORDS] = weights[_WORDS][token_ids]
        config = teacher.config.model_copy(update={"vocab_size": len(token_ids)})
        return cls(config, weights, teacher.pooling, is_replaced)


class Replacement:
    """A teacher's frozen modules, and which of them the successor's layers replace in the present step.

    Neither a Keras layer nor a tf.Module: what saves or exports the successor finds nothing of the teacher.
    """

    def __init__(self, config: BertConfig, weights: Mapping[str, Array], modules: int) -> None:
        """Split the layers into consecutive groups, as equal as possible, the larger ones first; all are replaced."""
        groups = np.array_split(np.arange(config.num_hidden_layers), modules)
        self.groups = tuple(tuple(BertLayer(config, weights, int(layer)) for layer in group) for group in groups)
        self._replaced = tf.Variable(tf.ones([modules], tf.bool), trainable=False)

    def draw(self, probability: float, generator: np.random.Generator) -> None:
        """Draw for each module whether it is replaced in the next step.

        Drawn here and not in the graph: a training that is resumed sees the draws it would have seen.

        Args:
            probability: of each module, in [0, 1].
            generator: seeded by the step.
        """
        self._replaced.assign(generator.random(len(self.groups)) < probability)

    def compute(self, number: int, layer: BertLayer, hidden: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
        """Return what a module makes of ``[rows, hidden]``: its successor's `layer`, or the teacher's group."""

        def group() -> tf.Tensor:
            outputs = hidden
            for frozen in self.groups[number]:
                outputs = frozen(outputs, penalty)
            return outputs

        return tf.cond(self._replaced[number], lambda: layer(hidden, penalty), group)


class _Successor(tf.Module):
    """The successor's variables, in the teacher's own layers."""

    def __init__(self, predecessor: Predecessor, *, layers: int, max_tokens: int) -> None:
        super().__init__(name=_BODY)
        config, weights = predecessor.config, predecessor.weights
        # A student reads sentences alone, which are segment 0: that embedding is the same in every place.
        segment = weights["embeddings.token_type_embeddings.weight"][0]
        places = weights["embeddings.position_embeddings.weight"][:max_tokens] + segment
        self._places = tf.Variable(places, name="places")
        self._norm = LayerNorm(weights, "embeddings.LayerNorm", epsilon=config.layer_norm_eps, trainable=True)
        is_factorised = config.embedding_width != config.hidden_size
        self._mapping = Dense(weights, MAPPING, trainable=True) if is_factorised else None
        self.layers = [BertLayer(config, weights, number, trainable=True) for number in range(layers)]
        self._pooling = predecessor.pooling
        self._pooler = Dense(weights, POOLER, trainable=True) if self._pooling.startswith("pooler") else None

    def embed(self, vectors: tf.Tensor) -> tf.Tensor:
        """Return the first layer's input ``[batch · steps, hidden]`` for token embeddings ``[batch, steps, width]``."""
        placed = vectors + self._places[: tf.shape(vectors)[1]]
        hidden = self._norm(tf.reshape(placed, [-1, vectors.shape[-1]]))
        return hidden if self._mapping is None else self._mapping(hidden)

    def pool(self, hidden: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """Return one vector a sentence ``[batch, hidden]``; with nothing present, the zero vector."""
        states = tf.reshape(hidden, [tf.shape(present)[0], tf.shape(present)[1], hidden.shape[-1]])
        if self._pooling == "mean":
            return mean_of_sum(tf.reduce_sum(states * tf.expand_dims(present, -1), axis=1), present)
        pooled = states[:, 0]
        if self._pooler is not None:
            pooled = self._pooler(pooled)
        if self._pooling == "pooler-tanh":
            pooled = tf.tanh(pooled)
        return pooled * tf.reduce_max(present, axis=1, keepdims=True)


class Successor(keras.layers.Layer):
    """All of a successor but its token embeddings.

    Attributes:
        replacement: the teacher's modules, which may run in place of its layers in training; None: they are gone.
    """

    supports_masking = True

    def __init__(self, predecessor: Predecessor, settings: StudentSettings, **options: object) -> None:
        super().__init__(**options)
        self._successor = _Successor(predecessor, layers=settings.layers, max_tokens=settings.max_tokens)
        self._dropout = keras.layers.Dropout(settings.dropout)
        self.replacement: Replacement | None = None
        if predecessor.is_replaced:
            self.replacement = Replacement(predecessor.config, predecessor.weights, settings.layers)

    @property
    def variables(self) -> list[tf.Variable]:
        """Return everything that is trained, and the state of the dropout; Keras does not look into tf.Modules."""
        return [*super().variables, *self._successor.variables]

    @property
    def weights(self) -> list[tf.Variable]:
        """Return everything that is trained."""
        return [*super().weights, *self._successor.variables]

    def call(self, vectors: tf.Tensor, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return unit vectors ``[batch, hidden]``; `vectors` are ``[batch, steps, width]``, ids ``[batch, steps]``."""
        present = present_tokens(ids)
        penalty = attention_penalty(present)
        hidden = self._dropout(self._successor.embed(vectors), training=training)
        for number, layer in enumerate(self._successor.layers):
            if training and self.replacement is not None:
                hidden = self.replacement.compute(number, layer, hidden, penalty)
            else:
                hidden = layer(hidden, penalty)
        return unit_length(self._successor.pool(hidden, present))

    def compute_mask(self, *_: object) -> None:
        """End masking here: the steps are gone."""
        return


def build(vocabulary_size: int, settings: StudentSettings, predecessor: Predecessor) -> keras.Model:
    """Return a successor, as `students.build` says; it is as wide as its predecessor.

    Raises: ConfigurationError as `require_room` does; ValueError for a predecessor with another vocabulary.
    """
    require_room(predecessor.config, settings)
    if predecessor.config.vocab_size != vocabulary_size:
        raise ValueError(
            f"The predecessor must have the student's vocabulary, {vocabulary_size} entries. "
            f"Received: {predecessor.config.vocab_size}."
        )
    ids = keras.Input([None], dtype="int32", name="ids")
    sizes = settings.model_copy(update={"embedding_size": predecessor.config.embedding_width})
    vectors = tokens(vocabulary_size, sizes, predecessor.weights[_WORDS])(ids)
    return keras.Model(ids, Successor(predecessor, settings, name=_BODY)(vectors, ids), name="bert")


def require_room(config: BertConfig, settings: StudentSettings) -> None:
    """Raise ConfigurationError if a student would have more layers or longer sentences than its teacher."""
    if settings.layers > config.num_hidden_layers:
        raise ConfigurationError(
            f"student.layers is {settings.layers}, but the teacher has only {config.num_hidden_layers} layers.",
            hint=f"Set student.layers to {config.num_hidden_layers} or less; 3 or 4 are usual.",
        )
    if settings.max_tokens > config.max_position_embeddings:
        raise ConfigurationError(
            f"student.max_tokens is {settings.max_tokens}, but the teacher reads at most "
            f"{config.max_position_embeddings} tokens.",
            hint=f"Set student.max_tokens to {config.max_position_embeddings} or less.",
        )


def replacement(encoder: keras.Model) -> Replacement | None:
    """Return the modules that a student replaces while it learns; None for every student but a `theseus` one."""
    found: Replacement | None = encoder.get_layer(_BODY).replacement if encoder.name == "bert" else None
    return found


def _build_alone(
    _vocabulary_size: int, _settings: StudentSettings, _embeddings: Vectors | None, _learned: Learned
) -> keras.Model:
    raise ConfigurationError(
        "A student of kind bert is made from its teacher's weights, and none were given.",
        hint="Pass `predecessor`, or choose another student.kind.",
    )


KIND = Kind("The teacher's own kind, with fewer layers: slower than the others, and more exact.", _build_alone)
