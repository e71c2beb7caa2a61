"""The store of teacher scores on S3: what is there, what is missing, and how it is filled.

A bi-encoder's item is a sentence, so one that occurs in many pairs is encoded once; a cross-encoder's is a pair.
Of a data version, `planning` finds what is missing, `worker` computes it, and `scoring`, `processes` and
`supervision` see to it that all of it is computed. `LogitsStore` reads it.
"""

from restill.logits.calibration import PlattCalibration, fit_platt
from restill.logits.items import pair_digest, sentence_digest
from restill.logits.scoring import ScoreReport, score
from restill.logits.store import LogitsStore, open_store

__all__ = [
    "LogitsStore",
    "PlattCalibration",
    "ScoreReport",
    "fit_platt",
    "open_store",
    "pair_digest",
    "score",
    "sentence_digest",
]
