"""Measure a challenger, the champion and the teacher on the frozen test split, and time the exported artifacts."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restill.errors import ConfigurationError
from restill.logits import LogitsStore
from restill.manifests import Calibration, Manifest
from restill.measurements import Latency, Measurements, accuracy, latency
from restill.measurements.accuracy import Predictions, Rows
from restill.measurements.latency import Artifact, Timings
from restill.serving import PairModel
from restill.settings import Settings
from restill.snapshots import Snapshot

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


@dataclass(frozen=True)
class Evaluation:
    """The measurements and, for pictures, what they were computed from."""

    measurements: Measurements
    rows: Rows
    predictions: dict[str, Predictions]
    timings: Timings


def evaluate(
    challenger: Candidate,
    champion: Candidate | None,
    snapshot: Snapshot,
    logits: LogitsStore,
    teacher: Calibration,
    settings: Settings,
) -> Evaluation:
    """Score the same frozen rows with everyone, then time challenger and champion interleaved.

    Args:
        challenger: the version to be judged, as downloaded from the registry.
        champion: what it is compared with; None before the first promotion.
        snapshot: the data version whose test split is used.
        logits: teacher embeddings of its sentences.
        teacher: the teacher's calibration, fitted on training and validation labels.
        settings: limits, resamples and how latency is timed.
    Raises: MeasurementFailed, ConfigurationError (golden pairs that cannot be read).
    """
    gates = settings.gates
    known = champion.manifest.lineage.batches if champion else snapshot.batches
    rows = accuracy.read_rows(snapshot, "test", new_batches=frozenset(snapshot.batches) - frozenset(known))
    predictions = {
        "challenger": _predict(challenger, rows, settings),
        "teacher": _predictions(_in_chunks(rows, logits), teacher),
    }
    if champion is not None:
        predictions["champion"] = _predict(champion, rows, settings)
        difference, slices = accuracy.compare(
            predictions["challenger"],
            predictions["champion"],
            rows,
            confidence=gates.confidence,
            resamples=gates.resamples,
            margin=gates.max_slice_loss,
            min_pairs=gates.min_slice_pairs,
        )
    else:
        difference, slices = None, ()
    timed, timings = time_artifacts(challenger, champion, rows, settings)
    measurements = Measurements(
        challenger=challenger.manifest.version,
        champion=champion.manifest.version if champion else None,
        data_version=snapshot.version,
        accuracy={name: accuracy.measure(found, rows.labels) for name, found in predictions.items()},
        difference=difference,
        slices=slices,
        golden_failures=_golden_failures(challenger, settings),
        latency=timed,
        artifact_mb=challenger.manifest.served_bytes / 1e6,
    )
    return Evaluation(measurements, rows, predictions, timings)


def time_artifacts(
    challenger: Candidate, champion: Candidate | None, rows: Rows, settings: Settings, *, factor: int = 1
) -> tuple[Latency, Timings]:
    """Time both artifacts on a fixed sample of the test pairs; `factor` multiplies the requests per arm."""
    sample = np.random.default_rng(0).permutation(len(rows.pairs))[:2000]
    return latency.measure(
        challenger.artifact,
        champion.artifact if champion else None,
        [rows.pairs[position] for position in sample],
        requests=settings.latency.requests * factor,
        warmup=settings.latency.warmup,
        threads=settings.latency.threads,
        confidence=settings.gates.confidence,
    )


def _predict(candidate: Candidate, rows: Rows, settings: Settings) -> Predictions:
    model = PairModel(candidate.folder, file=candidate.manifest.served_path, threads=settings.latency.threads)
    pairs = rows.pairs
    cosines = np.concatenate(
        [model.similarity(pairs[start : start + _CHUNK]) for start in range(0, len(pairs), _CHUNK)]
    )
    return _predictions(cosines.astype(np.float64), model.calibration)


def _in_chunks(rows: Rows, logits: LogitsStore) -> NDArray[np.float64]:
    chunks = [
        logits.cosines(rows.text_a[start : start + _CHUNK], rows.text_b[start : start + _CHUNK])
        for start in range(0, len(rows.labels), _CHUNK)
    ]
    return np.concatenate(chunks).astype(np.float64)


def _predictions(cosines: NDArray[np.float64], calibration: Calibration) -> Predictions:
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
    model = PairModel(challenger.folder, file=challenger.manifest.served_path)
    answers = model.predict([(a, b) for a, b, _ in golden])
    return tuple(
        f"“{a}” / “{b}”" for (a, b, same), answer in zip(golden, answers, strict=True) if answer.same is not same
    )
