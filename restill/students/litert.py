"""Conversion to LiteRT, and checks for what it can lose without an error: weights, and operators that serving has."""

import contextlib
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from restill.errors import ExportMismatch
from restill.students.kind import Encode
from restill.students.tokens import Tokens

_REPORT = "Nothing was registered. This is a fault of the conversion, not of the data: please report it."


def convert(encoder: keras.Model, encode: Encode, *, int8: bool) -> bytes:
    """Return a LiteRT model with the signatures `embed` and `similarity`, which share their weights.

    Args:
        encoder: the Keras model, whose token tables are frozen while its form is traced.
        encode: the form to export.
        int8: weights in 8 bits, activations in float ("dynamic range"); a scale for each row of a token table.
    """

    def embed(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": encode(ids)}

    def similarity(ids_a: tf.Tensor, ids_b: tf.Tensor) -> dict[str, tf.Tensor]:
        vectors = encode(tf.concat([ids_a, ids_b], axis=0))
        return {"similarity": tf.reduce_sum(vectors[:1] * vectors[1:], axis=-1)}

    def ids(name: str, sentences: int | None) -> tf.TensorSpec:
        return tf.TensorSpec([sentences, None], tf.int32, name=name)

    with contextlib.ExitStack() as frozen, tempfile.TemporaryDirectory() as folder:
        for layer in encoder.layers:
            if isinstance(layer, Tokens):
                frozen.enter_context(layer.frozen(int8=int8))
        archive = keras.export.ExportArchive()
        archive.track(encoder)
        archive.add_endpoint("embed", embed, [ids("ids", None)])
        archive.add_endpoint("similarity", similarity, [ids("ids_a", 1), ids("ids_b", 1)])
        # Through a SavedModel: from functions or from Keras the converter loses weights or asks for Flex operators.
        archive.write_out(folder, verbose=False)
        # The first signature is the graph that an interpreter runs when it is not asked for a signature.
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["embed", "similarity"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converted: bytes = converter.convert()
    return converted


def require_weights(path: Path, encoder: keras.Model, *, int8: bool) -> None:
    """Raise ExportMismatch if a file is smaller than the weights that should be in it."""
    matrices = sum(int(np.prod(weight.shape)) for weight in encoder.weights if len(weight.shape) > 1)
    least, size = matrices * (1 if int8 else 4), path.stat().st_size
    if size < least:
        raise ExportMismatch(f"{path.name} has {size} bytes; its weights alone take {least}.", hint=_REPORT)


def operators(content: bytes) -> frozenset[str]:
    """Return the names of the operators in a LiteRT model; of a custom one, its own name."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.Model.GetRootAs(content, 0)
    found = set()
    for number in range(model.OperatorCodesLength()):
        operator = model.OperatorCodes(number)
        code = max(operator.BuiltinCode(), operator.DeprecatedBuiltinCode())
        custom = code == schema.BuiltinOperator.CUSTOM
        found.add(f"custom {operator.CustomCode().decode()}" if custom else names[code])
    return frozenset(found)


def require_builtin_operators(path: Path) -> None:
    """Raise ExportMismatch if a file needs other operators than LiteRT's own, or cannot be loaded with them."""
    foreign = sorted(name for name in operators(path.read_bytes()) if name.startswith("custom "))
    if foreign:
        raise ExportMismatch(f"{path.name} needs operators that LiteRT has not: {', '.join(foreign)}.", hint=_REPORT)
    try:
        Interpreter(model_path=str(path), num_threads=1).allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ExportMismatch(f"{path.name} cannot be loaded: {error}", hint=_REPORT) from error
