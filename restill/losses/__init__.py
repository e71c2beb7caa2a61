"""Losses that teach a student from labels and from a teacher: pure, one value per pair; the loop reduces.

`c` is the cosine of a pair's two embeddings. The two-class logits of a pair are (0, z), z = (c - bias)·scale.
The functions take plain tensors, float32 or float64; `HARD` and `SOFT` call them by name on a `Batch`.
"""

from restill.losses.batch import Batch
from restill.losses.catalogue import HARD, SOFT, HardLoss, SoftLoss, total, weighted
from restill.losses.cross_entropy import bce
from restill.losses.margins import contrastive, contrastive_published
from restill.losses.scores import listwise, mse
from restill.losses.soft_targets import kd
from restill.losses.vectors import embedding, similarity_matrix

__all__ = [
    "HARD",
    "SOFT",
    "Batch",
    "HardLoss",
    "SoftLoss",
    "bce",
    "contrastive",
    "contrastive_published",
    "embedding",
    "kd",
    "listwise",
    "mse",
    "similarity_matrix",
    "total",
    "weighted",
]
