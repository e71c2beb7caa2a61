"""Schedules: in what order a student learns. A schedule is a list of phases; each has its own weights of the losses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from restill.settings import DistillationSettings


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one objective; its learning rate rises, then falls to zero over its steps."""

    name: str
    epochs: int  # at most
    alpha: float  # weight of the soft losses on labelled pairs
    labelled_only: bool = False  # leave unlabelled pairs out
    learning_rate: float = 2e-3
    replacing: bool = False  # modules of the teacher are replaced at random (`theseus`)
    stops_early: bool = True  # after `patience` epochs that were no better
    pruning: Literal["rising", "full"] | None = None  # weights are set to zero: more with every step, or all of them


@dataclass(frozen=True)
class Schedule:
    """How a schedule is shown, and its phases for these settings and this largest step size."""

    summary: str
    phases: Callable[[DistillationSettings, float], tuple[Phase, ...]]


def _joint(settings: DistillationSettings, rate: float) -> tuple[Phase, ...]:
    return (Phase("joint", settings.epochs, settings.alpha, learning_rate=rate),)


def _pseudo_label(settings: DistillationSettings, rate: float) -> tuple[Phase, ...]:
    """Teacher scores first, of labelled and unlabelled pairs alike; then the labels alone, in small steps."""
    return (
        Phase("teacher", settings.epochs, 1.0, learning_rate=rate),
        Phase("labels", settings.epochs, 0.0, labelled_only=True, learning_rate=rate / 5),
    )


def _labels(settings: DistillationSettings, rate: float) -> tuple[Phase, ...]:
    """No teacher's scores: what distillation has to be better than. Its embeddings still are, unless set to random."""
    return (Phase("labels", settings.epochs, 0.0, labelled_only=True, learning_rate=rate),)


def _theseus(settings: DistillationSettings, rate: float) -> tuple[Phase, ...]:
    """Xu et al. 2020, https://arxiv.org/abs/2002.02925: replace with rising probability, then go on alone."""
    return (
        Phase(
            "replace",
            settings.epochs,
            settings.alpha,
            learning_rate=rate,
            stops_early=False,  # the probability has to reach 1
            replacing=True,
        ),
        Phase("alone", settings.epochs, settings.alpha, learning_rate=rate / 2),
    )


SCHEDULES: dict[str, Schedule] = {
    "joint": Schedule("teacher scores and labels together", _joint),
    "pseudo-label": Schedule("teacher scores of all pairs first, then fine-tuning on the labels", _pseudo_label),
    "labels": Schedule("labels alone, undistilled: for comparison", _labels),
    "theseus": Schedule("bert only: teacher modules give way to the student's at random, then it goes alone", _theseus),
}


def pruning_phases(settings: DistillationSettings, rate: float) -> tuple[Phase, ...]:
    """Return what follows a finished training when a pruned export is wanted: prune, then recover under the masks."""
    half = max(1, settings.epochs // 4)
    return (
        Phase("prune", half, settings.alpha, learning_rate=rate / 2, stops_early=False, pruning="rising"),
        Phase("recover", 2 * half, settings.alpha, learning_rate=rate / 2, pruning="full"),
    )
