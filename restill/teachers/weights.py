"""An encoder's weights as arrays under one naming, whatever format they are stored in.

Names are those of Hugging Face's BERT without the prefix `bert.`; kernels are `[out, in]` as there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from restill.errors import TeacherError
from restill.teachers.config import BertConfig

Array = npt.NDArray[np.float32]

MAPPING = "encoder.embedding_hidden_mapping_in"
"""The dense layer from factorised embeddings to the hidden width."""
POOLER = "pooler.dense"
CLASSIFIER = "classifier"

_SHOWN_FAULTS = 20


@dataclass(frozen=True)
class StoredVariable:
    """A variable of a checkpoint, not yet read.

    Attributes:
        stored_name: its name in the checkpoint.
        shape: in our layout, kernels `[out, in]`.
        dtype: as the checkpoint calls it.
        is_floating: whether it holds plain floating-point numbers, not e.g. quantised ones.
        read: gives the array in our layout.
    """

    stored_name: str
    shape: tuple[int, ...]
    dtype: str
    is_floating: bool
    read: Callable[[], npt.NDArray[np.generic]]


def expected_shapes(
    config: BertConfig, *, pooler: bool = False, labels: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every variable that the encoder needs, by name.

    Args:
        config: sizes of the encoder.
        pooler: whether the dense layer over [CLS] is needed.
        labels: outputs of the classifier on the pooler; None: no classifier is needed.
    """
    hidden, inner, width = config.hidden_size, config.intermediate_size, config.embedding_width
    norms = {"embeddings.LayerNorm": width}
    dense: dict[str, tuple[int, int]] = {}
    if width != hidden:
        dense[MAPPING] = (hidden, width)
    for number in range(config.num_hidden_layers):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            dense[f"{layer}.attention.self.{part}"] = (hidden, hidden)
        dense[f"{layer}.attention.output.dense"] = (hidden, hidden)
        dense[f"{layer}.intermediate.dense"] = (inner, hidden)
        dense[f"{layer}.output.dense"] = (hidden, inner)
        norms |= {f"{layer}.attention.output.LayerNorm": hidden, f"{layer}.output.LayerNorm": hidden}
    if pooler:
        dense[POOLER] = (hidden, hidden)
    if labels is not None:
        dense[CLASSIFIER] = (labels, hidden)

    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, width),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, width),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, width),
    }
    for part, size in norms.items():
        shapes |= {f"{part}.weight": (size,), f"{part}.bias": (size,)}
    for part, kernel in dense.items():
        shapes |= {f"{part}.weight": kernel, f"{part}.bias": kernel[:1]}
    return shapes


def read_expected(
    stored: Mapping[str, StoredVariable],
    expected: Mapping[str, tuple[int, ...]],
    *,
    source: str,
    stored_name: Callable[[str], str] = str,
) -> dict[str, Array]:
    """Read the expected variables as float32; nothing large is read before all of them are known to be there.

    Args:
        stored: what the checkpoint holds, by our names; more than is expected does no harm.
        expected: shapes by our names.
        source: the checkpoint, for messages.
        stored_name: turns our name into the checkpoint's, for messages about missing variables.

    Raises: TeacherError listing variables that are missing, have another shape or type, or are not finite.
    """
    faults = [f"missing {stored_name(name)}" for name in expected if name not in stored]
    for name, shape in expected.items():
        variable = stored.get(name)
        if variable is None:
            continue
        if variable.shape != shape:
            faults.append(f"{variable.stored_name} has shape {variable.shape} instead of {shape}")
        elif not variable.is_floating:
            faults.append(f"{variable.stored_name} has type {variable.dtype} instead of a floating-point type")
    if faults:
        raise _refusal(faults, source, expected)
    weights = {name: stored[name].read().astype(np.float32) for name in expected}
    for name, value in weights.items():
        if not np.isfinite(value).all():
            faults.append(f"{stored[name].stored_name} holds values that are not finite")
    if faults:
        raise _refusal(faults, source, expected)
    return weights


def _refusal(faults: list[str], source: str, expected: Mapping[str, tuple[int, ...]]) -> TeacherError:
    shown = "; ".join(faults[:_SHOWN_FAULTS])
    more = f"; and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
    hint = "Weights and config must come from the same model."
    if all("pooler" in fault for fault in faults) and f"{CLASSIFIER}.weight" not in expected:
        hint = "It has no usable pooler: set teacher.pooling to mean or cls, or choose another teacher."
    return TeacherError(f"{source} does not hold the encoder that its config describes: {shown}{more}.", hint=hint)
