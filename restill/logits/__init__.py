"""The store of teacher scores: an embedding per distinct sentence on S3, what is there and what is missing.

A pair's score is the cosine of its two embeddings, so a sentence that occurs in many pairs is encoded once.
"""

from restill.logits.calibration import PlattCalibration, fit_platt
from restill.logits.scoring import ScoreReport, score
from restill.logits.shards import sentence_digest
from restill.logits.store import LogitsStore

__all__ = ["LogitsStore", "PlattCalibration", "ScoreReport", "fit_platt", "score", "sentence_digest"]
