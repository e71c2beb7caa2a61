"""Measure a challenger, the champion and the teacher on the frozen test split, and time the exported artifacts."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from restill.errors import ConfigurationError
from restill.logits import LogitsStore
from restill.manifests import Calibration, Manifest
from restill.measurements import Accuracy, Latency, Measurements, SplitUse, accuracy, invariances
from restill.measurements.accuracy import Comparison, Predictions
from restill.measurements.latency import measuring
from restill.measurements.latency.records import Artifact, Timings
from restill.measurements.rows import Rows, read_rows
from restill.serving import PairModel
from restill.settings import GateSettings, Settings
from restill.snapshots import Snapshot

TIMED_PAIRS = 2000  # of the test split

_CHUNK = 1024


@dataclass(frozen=True)
class Candidate:
    """A registered version, downloaded and verified."""

    manifest: Manifest
    folder: Path

    @property
    def artifact(self) -> Artifact:
        """Return the file that would be served."""
        return Artifact(self.folder, self.manifest.served_path)

    @property
    def path(self) -> Path:
        """Return where the file that would be served is."""
        return self.folder / self.manifest.served_path

    def load(self, threads: int) -> PairModel:
        """Return the model that would be served."""
        return PairModel(self.folder, file=self.manifest.served_path, threads=threads)


@dataclass(frozen=True)
class Evaluation:
    """The measurements and, for pictures, what they were computed from."""

    measurements: Measurements
    rows: Rows
    predictions: dict[str, Predictions]
    timings: Timings


@dataclass(frozen=True)
class Appraisal:
    """How well versions answer some pairs, outside of any decision."""

    accuracy: dict[str, Accuracy]
    comparison: Comparison | None  # "version" minus "champion"


class Timer(Protocol):
    """Has artifacts timed, here or elsewhere, on pairs among the rows; `factor` multiplies the requests per arm."""

    def __call__(
        self, challenger: Candidate, champion: Candidate | None, rows: Rows, settings: Settings, *, factor: int = 1
    ) -> tuple[Latency, Timings]:
        """Return the latency, and the raw timings behind it."""


def time_artifacts(
    challenger: Candidate, champion: Candidate | None, rows: Rows, settings: Settings, *, factor: int = 1
) -> tuple[Latency, Timings]:
    """Time both artifacts on this machine."""
    return measuring.measure(
        challenger.artifact,
        champion.artifact if champion else None,
        timed_pairs(rows),
        requests=settings.latency.requests * factor,
        warmup=settings.latency.warmup,
        threads=settings.latency.threads,
        confidence=settings.gates.confidence,
    )


def timed_pairs(rows: Rows) -> list[tuple[str, str]]:
    """Return a fixed sample of the rows, in a fixed order."""
    pairs = rows.pairs
    return [pairs[position] for position in np.random.default_rng(0).permutation(len(pairs))[:TIMED_PAIRS]]


def evaluate(
    challenger: Candidate,
    champion: Candidate | None,
    snapshot: Snapshot,
    logits: LogitsStore,
    teacher: Calibration,
    settings: Settings,
    *,
    earlier_decisions: int = 0,
    time: Timer = time_artifacts,
) -> Evaluation:
    """Score the same frozen rows with everyone, then time challenger and champion interleaved.

    Args:
        challenger: the version to be judged, as downloaded from the registry.
        champion: what it is compared with; None before the first promotion.
        snapshot: the data version whose test split is used.
        logits: teacher embeddings of its sentences.
        teacher: the teacher's calibration, fitted on training and validation labels.
        settings: limits, resamples and how latency is timed.
        earlier_decisions: how many other challengers this test split has decided on.
        time: who times the artifacts.
    Raises: MeasurementFailed, ConfigurationError (golden pairs that cannot be read).
    """
    known = champion.manifest.lineage.batches if champion else snapshot.batches
    rows = read_rows(snapshot, "test", new_batches=frozenset(snapshot.batches) - frozenset(known))
    model = challenger.load(settings.latency.threads)
    predictions = {"challenger": score_rows(model, rows), "teacher": teacher_predictions(rows, logits, teacher)}
    if champion is not None:
        predictions["champion"] = score_rows(champion.load(settings.latency.threads), rows)
    timed, timings = time(challenger, champion, rows, settings)
    measurements = Measurements(
        challenger=challenger.manifest.version,
        champion=champion.manifest.version if champion else None,
        data_version=snapshot.version,
        **quality(rows, predictions, settings.gates),
        golden_failures=_golden_failures(challenger, settings),
        latency=timed,
        artifact_mb=challenger.manifest.served_bytes / 1e6,
        swap_difference=invariances.swap_difference(model, challenger.path, rows.pairs),
        invariances=invariances.measure(model, rows.pairs),
        test_split=SplitUse(version=snapshot.test_version, decisions=earlier_decisions),
    )
    return Evaluation(measurements, rows, predictions, timings)


def quality(rows: Rows, predictions: dict[str, Predictions], gates: GateSettings) -> dict[str, Any]:
    """Return the fields of `Measurements` that follow from predictions and limits alone.

    Args:
        rows: the test pairs.
        predictions: of "challenger", "teacher" and, if there is one, "champion".
        gates: confidence, resamples, and which slices are large enough to be judged.
    """
    teacher = predictions["teacher"].cosines
    found: dict[str, Any] = {
        "accuracy": {name: accuracy.measure(answers, rows, reference=teacher) for name, answers in predictions.items()},
        "difference": None,
        "slices": (),
    }
    if "champion" in predictions:
        compared = _compare(predictions["challenger"], predictions["champion"], rows, gates)
        found |= {
            "difference": compared.difference,
            "difference_error": compared.error,
            "mcnemar": compared.mcnemar,
            "slices": compared.slices,
        }
    return found


def appraise(versions: dict[str, Candidate], rows: Rows, gates: GateSettings) -> Appraisal:
    """Measure registered versions on any data version's labelled pairs, without teacher and without deciding anything.

    Args:
        versions: one, or a "version" with a "champion" to compare it with.
        rows: the pairs.
        gates: confidence and resamples of the comparison.
    """
    answers = {name: score_rows(version.load(threads=1), rows) for name, version in versions.items()}
    compared = None
    if "champion" in answers:
        compared = _compare(answers["version"], answers["champion"], rows, gates)
    return Appraisal({name: accuracy.measure(given, rows) for name, given in answers.items()}, compared)


def _compare(challenger: Predictions, champion: Predictions, rows: Rows, gates: GateSettings) -> Comparison:
    return accuracy.compare(
        challenger,
        champion,
        rows,
        confidence=gates.confidence,
        resamples=gates.resamples,
        margin=gates.max_slice_loss,
        min_pairs=gates.min_slice_pairs,
        min_clusters=gates.min_clusters,
    )


def score_rows(model: PairModel, rows: Rows) -> Predictions:
    """Return what an exported student says of the rows."""
    pairs = rows.pairs
    cosines = np.concatenate(
        [model.similarity(pairs[start : start + _CHUNK]) for start in range(0, len(pairs), _CHUNK)]
    ).astype(np.float64)
    return Predictions(cosines, model.calibration.probabilities(cosines), model.calibration.threshold)


def teacher_predictions(rows: Rows, logits: LogitsStore, calibration: Calibration) -> Predictions:
    """Return what the teacher says of the rows, from its stored embeddings."""
    cosines = logits.scores(rows.text_a, rows.text_b).astype(np.float64)
    return Predictions(cosines, calibration.probabilities(cosines), calibration.threshold)


def _golden_failures(challenger: Candidate, settings: Settings) -> tuple[str, ...] | None:
    """Return the golden pairs the challenger gets wrong; None when none are configured."""
    if settings.gates.golden_pairs is None:
        return None
    path = settings.root / settings.gates.golden_pairs
    try:
        with path.open(encoding="utf-8", newline="") as file:
            golden = [
                (row["text_a"], row["text_b"], {"0": False, "1": True}[row["label"]]) for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError) as error:
        raise ConfigurationError(
            f"The golden pairs in {path} cannot be read: {error!r}.",
            hint="It must be UTF-8 CSV with the columns text_a, text_b and label (0 or 1).",
        ) from error
    if not golden:
        raise ConfigurationError(f"{path} holds no golden pairs.", hint="Add pairs, or unset gates.golden_pairs.")
    answers = challenger.load(settings.latency.threads).predict([(a, b) for a, b, _ in golden])
    return tuple(
        f"“{a}” / “{b}”" for (a, b, same), answer in zip(golden, answers, strict=True) if answer.same is not same
    )
