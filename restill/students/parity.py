"""Whether an export computes what the Keras model computes: on real sentences, on one token, on the longest input."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from restill.errors import ExportMismatch
from restill.serving import Encoder
from restill.students.kind import Ids, Vectors

FLOAT_TOLERANCE = 1e-4  # largest difference of an embedding value or a cosine, float exports
INT8_TOLERANCE = 0.05  # largest difference of a cosine, int8 weights

Reference = Callable[[Ids], Vectors]


def reference(encoder: keras.Model) -> Reference:
    """Return the Keras model as a function of arrays, traced once for all shapes: run eagerly, an LSTM takes long."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def embed(ids: tf.Tensor) -> tf.Tensor:
        return encoder(ids, training=False)

    return lambda ids: embed(ids).numpy()


def hold_saved_model(folder: Path, embed: Reference, probe: Ids) -> None:
    """Raise ExportMismatch unless both signatures of a SavedModel agree with the Keras model on the probe."""
    loaded = tf.saved_model.load(str(folder))
    expected = embed(probe)
    found = loaded.signatures["embed"](ids=tf.constant(probe))["embedding"].numpy()
    _hold(folder.name, found, expected, tolerance=FLOAT_TOLERANCE)
    # Neighbours, not equals: a lost input, or one taken twice, shows as a wrong similarity.
    pair = loaded.signatures["serving_default"](ids_a=tf.constant(probe[:-1]), ids_b=tf.constant(probe[1:]))
    cosines = (expected[:-1] * expected[1:]).sum(axis=1)
    _hold(f"{folder.name}, similarity,", pair["similarity"].numpy(), cosines, tolerance=FLOAT_TOLERANCE)


def hold_litert(path: Path, embed: Reference, probe: Ids, *, max_tokens: int, int8: bool) -> None:
    """Raise ExportMismatch unless both signatures of a LiteRT file agree with the Keras model.

    They are held on the probe, as it is served; and on a sentence of one token and one of `max_tokens`, alone and
    beside each other. With 8-bit weights not the values are held but the cosines: those are what is served.
    """
    lengths = (probe != 0).sum(axis=1)
    longest = np.resize(probe[probe != 0], (1, max_tokens)).astype(np.int32)
    one_token = probe[lengths > 0][:1, :1]
    edges = np.concatenate([longest, np.pad(one_token, ((0, 0), (0, max_tokens - 1)))])
    served = Encoder(path, steps=max_tokens, threads=1)
    for ids in (probe, edges, np.concatenate([one_token, one_token[::-1]]), longest):
        expected, found = embed(ids), served.embed(ids)
        if int8:
            _hold(path.name, *(_neighbours(vectors) for vectors in (found, expected)), tolerance=INT8_TOLERANCE)
        else:
            _hold(path.name, found, expected, tolerance=FLOAT_TOLERANCE)

    similarity = Interpreter(model_path=str(path), num_threads=1).get_signature_runner("similarity")
    for ids_a, ids_b in ((probe[:1], probe[-1:]), (edges[:1], edges[1:]), (one_token, one_token)):
        answer = similarity(ids_a=ids_a, ids_b=ids_b)["similarity"]
        cosine = (embed(ids_a) * embed(ids_b)).sum(axis=1)
        tolerance = INT8_TOLERANCE if int8 else FLOAT_TOLERANCE
        _hold(f"{path.name}, similarity,", answer, cosine, tolerance=tolerance)


def _neighbours(vectors: Vectors) -> Vectors:
    """Return the cosine of each vector with the next, the last one's with the first."""
    cosines: Vectors = (vectors * np.roll(vectors, -1, axis=0)).sum(axis=1)
    return cosines


def _hold(name: str, found: Vectors, expected: Vectors, *, tolerance: float) -> None:
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("nan")
    if not difference <= tolerance:
        raise ExportMismatch(
            f"The export {name} differs from the trained model by {difference:.2e} on {len(expected)} sentences; "
            f"at most {tolerance:.0e} is allowed (shapes {found.shape} and {expected.shape}).",
            hint="Nothing was registered. This is a fault of the conversion, not of the data: please report it.",
        )
