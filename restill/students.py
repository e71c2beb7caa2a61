"""Student architectures, and their export to what is served. One name, one builder.

A student is an encoder: token ids to a unit vector. Both sentences of a pair go through the same one, so swapping
the sides of a pair changes nothing.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from restill.errors import ExportMismatch
from restill.serving import Encoder
from restill.settings import StudentSettings
from restill.vocabulary import PAD_ID

Ids = NDArray[np.int32]
Vectors = NDArray[np.float32]

FLOAT_TOLERANCE = 1e-4  # largest difference of an embedding value, float exports
INT8_TOLERANCE = 0.05  # largest difference of a cosine, int8 weights


class UnitLength(keras.layers.Layer):
    """Scale vectors to length 1; a zero vector stays zero, so its cosine with anything is 0 and never NaN."""

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, size]`` vectors of length 1 (or 0)."""
        return tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-12)


class MaskedMean(keras.layers.Layer):
    """Mean over the steps that are not padding; no steps at all give a zero vector."""

    supports_masking = True

    def call(self, states: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Pool ``[batch, steps, size]`` states to ``[batch, size]`` where ``ids[batch, steps]`` is not padding."""
        weights = tf.cast(tf.not_equal(ids, PAD_ID), states.dtype)[:, :, tf.newaxis]
        return tf.reduce_sum(states * weights, axis=1) / tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)

    def compute_mask(self, *_: object) -> None:
        """End masking here: the steps are gone."""
        return


def _siamese_lstm(vocabulary_size: int, settings: StudentSettings) -> keras.Model:
    """Embedding → bidirectional LSTM → masked mean → unit length (Neculoiu et al. 2016; Tang et al. 2019)."""
    ids = keras.Input([None], dtype="int32", name="ids")
    states = keras.layers.Embedding(
        vocabulary_size,
        settings.embedding_size,
        mask_zero=True,
        embeddings_initializer=keras.initializers.GlorotNormal(),
        name="tokens",
    )(ids)
    states = keras.layers.SpatialDropout1D(settings.dropout, name="dropout")(states)
    states = keras.layers.Bidirectional(keras.layers.LSTM(settings.hidden_size, return_sequences=True), name="lstm")(
        states
    )
    pooled = MaskedMean(name="mean")(states, ids)
    return keras.Model(ids, UnitLength(name="unit")(pooled), name="siamese-lstm")


BUILDERS: dict[str, Callable[[int, StudentSettings], keras.Model]] = {"siamese-lstm": _siamese_lstm}


def build(vocabulary_size: int, settings: StudentSettings) -> keras.Model:
    """Return an untrained encoder: int32 ids ``[batch, steps]`` (0 pads) → float32 ``[batch, size]``, unit length."""
    return BUILDERS[settings.kind](vocabulary_size, settings)


def export(encoder: keras.Model, probe: Ids, folder: Path, *, max_tokens: int) -> dict[str, str]:
    """Write SavedModel, LiteRT float and LiteRT int8, and hold each to the Keras model on real sentences.

    Args:
        encoder: a trained encoder.
        probe: ids ``[sentences, max_tokens]`` of real sentences of different lengths.
        folder: where `saved_model/`, `student.tflite` and `student_int8.tflite` are written.
        max_tokens: the longest input of the LiteRT models.
    Returns: the files, relative to `folder`, by role.
    Raises: ExportMismatch if an export computes something else than the Keras model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected = encoder(probe, training=False).numpy()
    _write_saved_model(encoder, folder / "saved_model")
    _hold("saved_model", _run_saved_model(folder / "saved_model", probe), expected, tolerance=FLOAT_TOLERANCE)

    single = folder / ".single"
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint("embed", _embed(encoder), [tf.TensorSpec([1, None], tf.int32, name="ids")])
    archive.write_out(str(single), verbose=False)
    for name, quantised in (("student.tflite", False), ("student_int8.tflite", True)):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(single), signature_keys=["embed"])
        if quantised:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        (folder / name).write_bytes(converter.convert())
        found = Encoder(folder / name, steps=max_tokens, threads=1).embed(probe)
        if quantised:
            cosines = (expected[:-1] * expected[1:]).sum(axis=1)
            _hold(name, (found[:-1] * found[1:]).sum(axis=1), cosines, tolerance=INT8_TOLERANCE)
        else:
            _hold(name, found, expected, tolerance=FLOAT_TOLERANCE)
    shutil.rmtree(single)
    return {"saved_model": "saved_model", "litert": "student.tflite", "litert_int8": "student_int8.tflite"}


def _embed(encoder: keras.Model) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    def embed(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": encoder(ids, training=False)}

    return embed


def _write_saved_model(encoder: keras.Model, folder: Path) -> None:
    def similarity(ids_a: tf.Tensor, ids_b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"similarity": tf.reduce_sum(encoder(ids_a, training=False) * encoder(ids_b, training=False), axis=-1)}

    def ids(name: str) -> tf.TensorSpec:
        return tf.TensorSpec([None, None], tf.int32, name=name)

    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint("serving_default", similarity, [ids("ids_a"), ids("ids_b")])
    archive.add_endpoint("embed", _embed(encoder), [ids("ids")])
    archive.write_out(str(folder), verbose=False)


def _run_saved_model(folder: Path, probe: Ids) -> Vectors:
    loaded = tf.saved_model.load(str(folder))
    embeddings: Vectors = loaded.signatures["embed"](ids=tf.constant(probe))["embedding"].numpy()
    # The pair signature is asymmetric in its names: a swapped or lost input shows as a wrong similarity.
    pair = loaded.signatures["serving_default"](ids_a=tf.constant(probe[:-1]), ids_b=tf.constant(probe[1:]))
    cosines = (embeddings[:-1] * embeddings[1:]).sum(axis=1)
    _hold("saved_model similarity", pair["similarity"].numpy(), cosines, tolerance=FLOAT_TOLERANCE)
    return embeddings


def _hold(name: str, found: Vectors, expected: Vectors, *, tolerance: float) -> None:
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("nan")
    if not difference <= tolerance:
        raise ExportMismatch(
            f"The export {name} differs from the trained model by {difference:.2e} on {len(expected)} sentences; "
            f"at most {tolerance:.0e} is allowed (shapes {found.shape} and {expected.shape}).",
            hint="Nothing was registered. This is a fault of the conversion, not of the data: please report it.",
        )
