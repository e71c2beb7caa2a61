"""How often the accuracy gates are wrong, for a test split of one's own: simulated decisions with a known truth.

A simulated test set is drawn group by group from real ones, so pairs err together as they do in truth. Where two real
models answered the same pairs, each group's answers are exchanged between them with probability ½: two models of
exactly equal quality that differ as these two do. A challenger that is worse by a known amount answers some more pairs
wrongly. The decision is taken by the gate itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from restill.gates import Answer, quality
from restill.measurements.statistics import paired_difference
from restill.settings import GateSettings

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Population:
    """Real test pairs and what two models got right of them: what simulated test sets are drawn from."""

    first: Bools  # [pairs]
    second: Bools
    clusters: NDArray[np.str_]

    @property
    def disagreement(self) -> float:
        """Return the share of pairs that exactly one of the two gets right."""
        return float((self.first != self.second).mean())


@dataclass(frozen=True)
class Rates:
    """What the gate answered over many simulated decisions on one truth."""

    true_difference: float  # challenger minus champion, accuracy
    pairs: int  # of each simulated test set, about
    decisions: int
    answers: dict[Answer, int]

    def share(self, answer: Answer) -> tuple[float, float, float]:
        """Return the share of an answer with its exact 95 % interval (Clopper and Pearson 1934)."""
        found = binomtest(self.answers.get(answer, 0), self.decisions)
        ends = found.proportion_ci(0.95)
        return float(found.statistic), float(ends.low), float(ends.high)


def assume(clusters: NDArray[np.str_], *, disagreement: float, accuracy: float, seed: int = 0) -> Population:
    """Return a population for test pairs that no two models have answered yet, which err pair by pair.

    Args:
        clusters: ``[pairs]``, group of each test pair.
        disagreement: share of pairs that exactly one of the two models gets right.
        accuracy: of both.
        seed: of the answers.
    """
    draw = np.random.default_rng(seed).random(len(clusters))
    both, half = accuracy - disagreement / 2, disagreement / 2
    first = draw < both + half
    second = (draw < both) | ((draw >= both + half) & (draw < both + disagreement))
    return Population(first, second, clusters)


def simulate(
    population: Population,
    limits: GateSettings,
    *,
    true_difference: float,
    pairs: int,
    decisions: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Rates:
    """Decide on many challengers whose accuracy differs from the champion's by a known amount.

    Args:
        population: real pairs.
        limits: of the gate: margin, confidence, resamples, fewest groups.
        true_difference: challenger minus champion, at most 0, accuracy.
        pairs: of each simulated test set, reached by drawing whole groups.
        decisions: how many.
        seed: of everything drawn.
        progress: called with the number of decisions taken.
    Raises: ValueError for a true difference above 0, or a loss larger than the accuracy.
    """
    right = max(float(population.first.mean()), float(population.second.mean()))
    if not -right <= true_difference <= 0:
        raise ValueError(f"true_difference must be in [{-right:.3f}, 0]. Received: {true_difference}.")
    generator = np.random.default_rng(seed)
    _, index, sizes = np.unique(population.clusters, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(index, kind="stable"), np.cumsum(sizes)[:-1])
    counts: dict[Answer, int] = {}
    for number in range(decisions):
        chosen = generator.integers(0, len(members), size=max(1, round(pairs / sizes.mean())))
        rows = np.concatenate([members[cluster] for cluster in chosen])
        group = np.repeat(np.arange(len(chosen)), sizes[chosen])
        exchanged = (generator.random(len(chosen)) < 0.5)[group]
        challenger = np.where(exchanged, population.second[rows], population.first[rows])
        champion = np.where(exchanged, population.first[rows], population.second[rows])
        # Expected share of right answers lost: -true_difference, whatever the accuracy.
        expected = (population.first.mean() + population.second.mean()) / 2
        challenger &= generator.random(len(rows)) >= -true_difference / expected
        answer = decide(challenger, champion, group.astype(str), limits, seed=number)
        counts[answer] = counts.get(answer, 0) + 1
        progress(number + 1)
    return Rates(true_difference, pairs, decisions, counts)


def decide(
    challenger: Bools, champion: Bools, clusters: NDArray[np.str_], limits: GateSettings, *, seed: int
) -> Answer:
    """Return what the gate `champion_non_inferiority` answers on these pairs."""
    if len(np.unique(clusters)) < limits.min_clusters:
        return Answer.INCONCLUSIVE
    difference, _ = paired_difference(
        challenger, champion, clusters, confidence=limits.confidence, resamples=limits.resamples, seed=seed
    )
    return quality.non_inferiority(difference, limits.max_accuracy_loss)


@dataclass(frozen=True)
class Resolution:
    """What a test split of a given size can tell, by the normal approximation."""

    pairs: int
    standard_error: float  # of the difference of two models that are equally good, accuracy
    equal_promoted: float  # probability that the gate passes an equally good challenger
    refused_loss: float  # smallest loss that the gate answers with fail in 95 % of decisions
    pairs_needed: int  # with which an equally good challenger passes in 80 % of decisions


def resolution(population: Population, limits: GateSettings, *, pairs: int) -> Resolution:
    """Return what the non-inferiority gate can tell with so many test pairs like these.

    References: Julious 2004, Statistics in Medicine 23, section 6, for non-inferiority with normal data.
    """
    gains = population.first.astype(np.float64) - population.second.astype(np.float64)
    _, index = np.unique(population.clusters, return_inverse=True)
    sums = np.bincount(index, weights=gains)
    # Exchanging the models group by group makes the sums symmetric: their second moment is their variance.
    error = float(np.sqrt((sums**2).sum() / len(gains) / pairs))
    confident, margin = float(norm.ppf(limits.confidence)), limits.max_accuracy_loss
    needed = pairs * ((confident + norm.ppf(0.8)) * error / margin) ** 2 if margin else np.inf
    return Resolution(
        pairs=pairs,
        standard_error=error,
        equal_promoted=float(norm.cdf(margin / error - confident)) if error else 1.0,
        refused_loss=margin + (confident + float(norm.ppf(0.95))) * error,
        pairs_needed=int(np.ceil(needed)) if np.isfinite(needed) else 0,
    )
