"""From cosine to P(same meaning): Platt's sigmoid or isotonic regression, whichever validation shows to be better."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GroupKFold

from restill.logits import fit_platt
from restill.manifests import Calibration
from restill.measurements.accuracy import best_threshold
from restill.measurements.statistics import expected_calibration_error

Floats = NDArray[np.float64]

FOLDS = 5
MIN_PAIRS = 500  # isotonic regression follows noise when there are fewer (Niculescu-Mizil and Caruana 2005: 1,000)


@dataclass(frozen=True)
class Fit:
    """A calibration with its threshold, and how the two methods compared."""

    calibration: Calibration
    method: str  # platt or isotonic
    compared: dict[str, dict[str, float]]  # method → cross-validated log_loss (nats a pair) and calibration_error


def fit(cosines: Floats, labels: Floats, sentences: NDArray[np.integer]) -> Fit:
    """Calibrate a model's cosines on labelled validation pairs and choose the threshold there.

    Both methods are fitted on four fifths and held to the rest, five times, with connected pairs in one fold. Isotonic
    regression is taken only where its log loss is smaller by more than the standard error of the difference: it is
    the larger file and has more to overfit.

    Args:
        cosines: ``[pairs]``.
        labels: ``[pairs]``, in [0, 1]; graded labels count as positive from 0.5 for threshold and comparison.
        sentences: ``[pairs, 2]``, which sentence each side is.
    Raises: TrainingFailed without a labelled pair.
    References: Platt 1999; Zadrozny and Elkan 2002, https://doi.org/10.1145/775047.775151; Niculescu-Mizil and Caruana
        2005, https://doi.org/10.1145/1102351.1102430
    """
    positive = labels >= 0.5
    groups = _groups(sentences)
    fitted, method = _platt(cosines, labels), "platt"
    compared: dict[str, dict[str, float]] = {}
    if len(labels) >= MIN_PAIRS and len(np.unique(groups)) >= FOLDS and positive.any() and not positive.all():
        stated = {"platt": np.empty(len(labels)), "isotonic": np.empty(len(labels))}
        for learn, judge in GroupKFold(FOLDS).split(cosines, groups=groups):
            stated["platt"][judge] = _platt(cosines[learn], labels[learn]).probabilities(cosines[judge])
            stated["isotonic"][judge] = _isotonic(cosines[learn], labels[learn]).probabilities(cosines[judge])
        costs = {name: -np.log(np.where(positive, values, 1 - values)) for name, values in stated.items()}
        compared = {
            name: {
                "log_loss": float(costs[name].mean()),
                "calibration_error": expected_calibration_error(values, positive),
            }
            for name, values in stated.items()
        }
        gain = costs["platt"] - costs["isotonic"]
        if gain.mean() > gain.std() / np.sqrt(len(gain)):
            fitted, method = _isotonic(cosines, labels), "isotonic"
    threshold = best_threshold(fitted.probabilities(cosines), positive)
    return Fit(fitted.model_copy(update={"threshold": threshold}), method, compared)


def _platt(cosines: Floats, labels: Floats) -> Calibration:
    found = fit_platt(cosines, labels)
    return Calibration(scale=found.scale, bias=found.bias, threshold=0.5)


def _isotonic(cosines: Floats, labels: Floats) -> Calibration:
    """Return the knots of the isotonic fit, kept away from 0 and 1, which no finite sample shows."""
    platt = _platt(cosines, labels)
    edge = 1 / (len(labels) + 2)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(cosines, labels)
    knots = tuple((float(x), float(y)) for x, y in zip(fitted.X_thresholds_, fitted.y_thresholds_, strict=True))
    return platt.model_copy(update={"knots": knots})


def _groups(sentences: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return for each pair the number of its group of pairs that are connected by sentences."""
    size = int(sentences.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(sentences)), (sentences[:, 0], sentences[:, 1])), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    groups: NDArray[np.int32] = labels[sentences[:, 0]]
    return groups
