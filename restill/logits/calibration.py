"""Platt calibration: from a teacher's cosine to the logit of "duplicate"."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from restill.errors import TrainingFailed

_MIN_SCALE = 1.0


@dataclass(frozen=True)
class PlattCalibration:
    """Turns a teacher's cosine into the logit of "duplicate": (cosine - bias) · scale, scale > 0."""

    scale: float
    bias: float

    def logits(self, cosines: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return logits, float32 of the same shape; their sigmoid is the probability of a duplicate."""
        return ((cosines - self.bias) * self.scale).astype(np.float32)


def fit_platt(cosines: npt.NDArray[np.floating], labels: npt.NDArray[np.number]) -> PlattCalibration:
    """Fit scale and bias by maximum likelihood against Platt's smoothed targets, keeping scale at 1 or more.

    When the labels cannot show a slope (one class only, or a teacher no better than chance) the best slope
    would be zero or negative; the scale is then 1, and the bias alone makes the mean probability right.

    Args:
        cosines: ``[n]``, of labelled pairs.
        labels: ``[n]``, 0, 1 or a degree in between.

    Raises: TrainingFailed without a labelled pair; ValueError on unequal lengths or values that cannot be.
    References: Platt, 1999, Probabilistic outputs for support vector machines.
    """
    from scipy.optimize import minimize  # late: a worker that only scores imports this package too
    from scipy.special import expit

    scores, truth = np.asarray(cosines, np.float64), np.asarray(labels, np.float64)
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise ValueError(f"A label per cosine is needed. Received: shapes {scores.shape} and {truth.shape}.")
    if not (np.isfinite(scores).all() and ((truth >= 0) & (truth <= 1)).all()):
        raise ValueError("Cosines must be finite and labels in [0, 1]; leave unlabelled pairs out.")
    if not len(scores):
        raise TrainingFailed(
            "There is no labelled training pair to calibrate the teacher's scores with.",
            hint="Add labelled pairs: training on unlabelled pairs alone is not supported yet.",
        )
    positives = truth.sum()
    high, low = (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2)
    targets = truth * high + (1 - truth) * low
    # Standardised, because raw cosines of some teachers lie within a few hundredths of each other.
    centre, spread = scores.mean(), scores.std()
    spread = spread if spread > 1e-9 else 1.0
    inputs = (scores - centre) / spread

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        z = parameters[0] * inputs + parameters[1]
        residual = expit(z) - targets
        value = float(np.mean(np.logaddexp(0, z) - targets * z))
        return value, np.array([np.mean(residual * inputs), np.mean(residual)])

    bounds = [(_MIN_SCALE * spread, None), (None, None)]
    start = np.array([max(1.0, _MIN_SCALE * spread), 0.0])
    # Convex, so the bounded optimum is the true one: either inside, or on the bound with the best bias there.
    slope, offset = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-9}).x
    scale = float(slope / spread)
    return PlattCalibration(scale=scale, bias=float(centre - offset / scale))
