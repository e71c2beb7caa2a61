"""BERT's forward pass in float64 NumPy, straight from the papers' formulas: what teachers are held against.

It knows nothing of the code under test. Arrays are looked up by the names of the TensorFlow 1 release.
"""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import erf

Lookup = Callable[[str], np.ndarray]


def from_tf1(variables: dict[str, np.ndarray]) -> Lookup:
    """Look up variables of a TensorFlow 1 release."""
    return lambda name: variables[f"bert/{name}"].astype(np.float64)


def from_hugging_face(weights: dict[str, np.ndarray]) -> Lookup:
    """Look up variables of a Hugging Face model, whose kernels are [out, in], with or without `bert.`."""

    def get(name: str) -> np.ndarray:
        part, leaf = name.rsplit("/", 1)
        stored = re.sub(r"layer_(\d+)", r"layer.\1", part).replace("/", ".")
        stored += "." + {"kernel": "weight", "gamma": "weight", "beta": "bias"}.get(leaf, leaf)
        stored = stored if not leaf.endswith("_embeddings") else f"{stored}.weight"
        value = weights[stored if stored in weights else f"bert.{stored}"].astype(np.float64)
        return value.T if leaf == "kernel" else value

    return get


def pooled(get: Lookup, config: dict, ids: Sequence[int], segments: Sequence[int], pooling: str) -> np.ndarray:
    """Return the pooled vector of one sequence, not normalised."""
    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ get(f"{name}/kernel") + get(f"{name}/bias")

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return scaled * get(f"{name}/gamma") + get(f"{name}/beta")

    x = get("embeddings/word_embeddings")[list(ids)] + get("embeddings/position_embeddings")[: len(ids)]
    x = norm(x + get("embeddings/token_type_embeddings")[list(segments)], "embeddings/LayerNorm")
    if config.get("embedding_size", config["hidden_size"]) != config["hidden_size"]:
        x = dense(x, "encoder/embedding_hidden_mapping_in")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder/layer_{number}"
        query, key, value = (dense(x, f"{layer}/attention/self/{part}") for part in ("query", "key", "value"))
        context = np.empty_like(x)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(size))
            context[:, part] = scores / scores.sum(1, keepdims=True) @ value[:, part]
        x = norm(x + dense(context, f"{layer}/attention/output/dense"), f"{layer}/attention/output/LayerNorm")
        inner = dense(x, f"{layer}/intermediate/dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{layer}/output/dense"), f"{layer}/output/LayerNorm")
    if pooling == "mean":
        return x.mean(0)
    if pooling == "cls":
        return x[0]
    vector = dense(x[0], "pooler/dense")
    return np.tanh(vector) if pooling == "pooler-tanh" else vector


def embeddings(get: Lookup, config: dict, rows: Sequence[Sequence[int]], pooling: str) -> np.ndarray:
    """Return the unit vector of each row of token ids, all of segment 0."""
    vectors = np.stack([pooled(get, config, ids, [0] * len(ids), pooling) for ids in rows])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
