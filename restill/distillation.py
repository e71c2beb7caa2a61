"""From a data version and teacher scores to an exported, calibrated student: one artifact folder per training key."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from restill import __version__, corpus, students, teachers, training
from restill.corpus import Corpus, Split
from restill.logits import LogitsStore, fit_platt
from restill.manifests import Calibration
from restill.measurements.accuracy import best_threshold
from restill.recipes import training_key
from restill.serving import CARD, Encoder
from restill.settings import Settings
from restill.snapshots import Snapshot

PROBE_SENTENCES = 64  # real sentences that each export is held to the Keras model on

REPORT = "training.json"
PARTS = ("corpus", "run", "artifact")  # of one training's folder, in the order they come to be


@dataclass(frozen=True)
class Artifact:
    """An exported student on disk, ready to be registered."""

    folder: Path
    training_key: str
    teacher_fingerprint: str
    files: dict[str, str]  # path in the folder → role
    calibration: Calibration
    report: dict[str, Any]  # epochs, losses, counts: what training.json holds


def distill(
    snapshot: Snapshot,
    logits: LogitsStore,
    settings: Settings,
    *,
    force: bool = False,
    progress: training.Progress = lambda done, total, what: None,
) -> Artifact:
    """Train, calibrate and export the student of this data version, or return the one already exported.

    An interrupted run goes on after its last whole epoch. `force` starts over.

    Raises: TrainingFailed, ExportMismatch.
    """
    key = training_key(snapshot.version, logits.fingerprint, settings)
    folder = settings.state_dir / "training" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    # Two runs of one project would write the same checkpoints; the second waits, and then finds the artifact.
    with _alone(folder / "lock", progress):
        if force:
            for part in PARTS:
                shutil.rmtree(folder / part, ignore_errors=True)
        if not (folder / "artifact").is_dir():
            prepared = corpus.prepare(
                snapshot,
                logits,
                teachers.open_teacher(settings.teacher).tokenizer,
                folder / "corpus",
                max_tokens=settings.student.max_tokens,
            )
            try:
                trained = training.distill(
                    prepared, settings.student, settings.distillation, folder / "run", progress=progress
                )
                _export(trained, prepared, settings, folder)
            except tf.errors.ResourceExhaustedError as error:
                if "space" not in str(error):
                    raise
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
            # The artifact stands; what it was made from can be made again.
            shutil.rmtree(folder / "corpus")
            shutil.rmtree(folder / "run")
        return _open(folder / "artifact", key, logits.fingerprint)


@contextmanager
def _alone(path: Path, progress: training.Progress) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        progress(0, 1, "waiting: another run trains the same student")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _export(trained: training.TrainedStudent, prepared: Corpus, settings: Settings, folder: Path) -> None:
    """Write the artifact under a temporary name and move it into place when it is whole."""
    partial = folder / ".artifact.partial"
    shutil.rmtree(partial, ignore_errors=True)
    exported = students.export(
        trained.encoder, _probe(prepared.validation), partial, max_tokens=settings.student.max_tokens
    )
    prepared.tokenizer.save(str(partial / "tokenizer.json"))
    served = Encoder(partial / exported[settings.student.artifact], steps=settings.student.max_tokens, threads=1)
    cosines = _cosines(served, prepared.validation)
    labelled = ~np.isnan(prepared.validation.labels)
    labels = prepared.validation.labels[labelled] >= 0.5
    platt = fit_platt(cosines[labelled], prepared.validation.labels[labelled])
    calibration = Calibration(scale=platt.scale, bias=platt.bias, threshold=0.5)
    threshold = best_threshold(calibration.probabilities(cosines[labelled]), labels)
    calibration = calibration.model_copy(update={"threshold": threshold})
    teacher = Calibration(scale=prepared.teacher.scale, bias=prepared.teacher.bias, threshold=0.5)
    teacher_cosines = np.asarray(prepared.validation.teacher_cosines[labelled])
    teacher_threshold = best_threshold(teacher.probabilities(teacher_cosines), labels)
    report = {
        "epochs": [asdict(epoch) for epoch in trained.history],
        "best_epoch": trained.best_epoch,
        "train_pairs": len(prepared.train),
        "validation_pairs": len(prepared.validation),
        "vocabulary": prepared.tokenizer.get_vocab_size(),
        "parameters": int(trained.encoder.count_params()),
        "teacher_calibration": teacher.model_copy(update={"threshold": teacher_threshold}).model_dump(),
    }
    card = {
        "format": 1,
        "restill": __version__,
        "kind": settings.student.kind,
        "max_tokens": settings.student.max_tokens,
        "dimension": served.dimension,
        "calibration": calibration.model_dump(),
    }
    for name, document in ((REPORT, report), (CARD, card)):
        (partial / name).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
    os.replace(partial, folder / "artifact")


def _probe(split: Split) -> NDArray[np.int32]:
    rows = np.linspace(0, len(split) - 1, min(PROBE_SENTENCES, len(split))).astype(int)
    return np.ascontiguousarray(split.ids_a[rows])


def _cosines(encoder: Encoder, split: Split) -> NDArray[np.float64]:
    """Return the served artifact's own cosines: the calibration must fit what will answer."""
    left, right = encoder.embed(split.ids_a), encoder.embed(split.ids_b)
    cosines: NDArray[np.float64] = (left * right).sum(axis=1).astype(np.float64)
    return cosines


def training_report(folder: Path) -> dict[str, Any]:
    """Return the training report of an artifact folder: epochs, losses, counts, the teacher's calibration."""
    report: dict[str, Any] = json.loads((folder / REPORT).read_text("utf-8"))
    return report


def teacher_calibration(folder: Path) -> Calibration:
    """Return the teacher's calibration that an artifact's training found, with its threshold from validation."""
    return Calibration.model_validate(training_report(folder)["teacher_calibration"])


_ROLES: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda path: path.startswith("saved_model/"), "saved_model"),
    (lambda path: path == "student.tflite", "litert"),
    (lambda path: path == "student_int8.tflite", "litert_int8"),
    (lambda path: path == "tokenizer.json", "tokenizer"),
    (lambda path: path == CARD, "calibration"),
    (lambda path: path == REPORT, "report"),
)


def _open(folder: Path, key: str, teacher_fingerprint: str) -> Artifact:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {path: next(role for matches, role in _ROLES if matches(path)) for path in paths}
    card = json.loads((folder / CARD).read_text("utf-8"))
    return Artifact(
        folder=folder,
        training_key=key,
        teacher_fingerprint=teacher_fingerprint,
        files=files,
        calibration=Calibration.model_validate(card["calibration"]),
        report=training_report(folder),
    )
