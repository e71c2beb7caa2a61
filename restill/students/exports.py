"""Write a trained student in the forms that are served, and hold each to the Keras model on real sentences.

A LiteRT file has two signatures over one set of weights: `embed`, ids ``[sentences, steps]``, both free, to
``[sentences, size]``; and `similarity`, the ids of one pair, each ``[1, steps]``, to their cosine ``[1]``. Same
weights, same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import keras

from restill.errors import ConfigurationError
from restill.students import litert, parity, saved_model
from restill.students.kind import Encode, Ids

SAVED_MODEL = "saved_model"
FILES = {
    SAVED_MODEL: "saved_model",
    "litert": "student.tflite",
    "litert_int8": "student_int8.tflite",
    "litert_pruned": "student_pruned.tflite",
    "litert_pruned_int8": "student_pruned_int8.tflite",
}


def export(
    encoder: keras.Model,
    probe: Ids,
    folder: Path,
    *,
    max_tokens: int,
    exports: Sequence[str] = (SAVED_MODEL, "litert", "litert_int8"),
) -> dict[str, str]:
    """Write the exports asked for, each held to the Keras model.

    A pruned export is written like any other: what is pruned is the encoder that is passed.

    Args:
        encoder: a trained encoder, from `build`.
        probe: ids ``[sentences, max_tokens]`` of real sentences of different lengths.
        folder: where the files are written.
        max_tokens: the longest input that is served.
        exports: roles, of `FILES`.
    Returns: the files, relative to `folder`, by role.
    Raises: ExportMismatch if an export computes something else than the Keras model, lacks weights, or needs
        operators that serving does not have; ConfigurationError for a role that is none.
    """
    unknown = sorted(set(exports) - set(FILES))
    if unknown:
        raise ConfigurationError(f"No such export: {', '.join(unknown)}.", hint=f"Exports are {', '.join(FILES)}.")
    folder.mkdir(parents=True, exist_ok=True)
    embed = parity.reference(encoder)
    for role in exports:
        path = folder / FILES[role]
        if role == SAVED_MODEL:
            saved_model.write(encoder, path)
            parity.hold_saved_model(path, embed, probe)
            continue
        int8 = role.endswith("int8")
        path.write_bytes(litert.convert(encoder, serving_form(encoder, int8=int8), int8=int8))
        litert.require_weights(path, encoder, int8=int8)
        litert.require_builtin_operators(path)
        parity.hold_litert(path, embed, probe, max_tokens=max_tokens, int8=int8)
    return {role: FILES[role] for role in exports}


def serving_form(encoder: keras.Model, *, int8: bool) -> Encode:
    """Return what is exported for an encoder: its architecture's own form, or else the model itself."""
    from restill.students import KINDS  # the package imports this module for its `export`

    kind = KINDS.get(encoder.name)
    if kind is not None and kind.serving is not None:
        return kind.serving(encoder, int8)
    return lambda ids: encoder(ids, training=False)
