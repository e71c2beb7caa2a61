"""From a data version and teacher scores to an exported, calibrated student: one artifact folder per training key."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import filelock
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from restill import __version__, calibration, inputs, students, training
from restill.artifacts import REPORT, Artifact, read_artifact
from restill.corpus import Corpus
from restill.logits import LogitsStore
from restill.manifests import Calibration
from restill.measurements.accuracy import best_threshold
from restill.recipes import training_key
from restill.serving import CARD, CARD_FORMAT, Encoder
from restill.settings import Settings
from restill.snapshots import Snapshot

HASHED_AT_ONCE = 1 << 20  # scores
PROBE_SENTENCES = 64  # real sentences that each export is held to the Keras model on

PARTS = ("inputs", "run", "pruning", "artifact")  # of one training's folder, in the order they come to be
PRUNED = ("litert_pruned", "litert_pruned_int8")


def distill(
    snapshot: Snapshot,
    logits: LogitsStore,
    settings: Settings,
    *,
    force: bool = False,
    progress: training.Progress = lambda done, total, what: None,
) -> Artifact:
    """Train, calibrate and export the student of this data version, or return the one already exported.

    An interrupted run goes on from its last checkpoint. `force` starts over.

    Raises: TrainingFailed, ExportMismatch, ConfigurationError.
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
            try:
                _make(snapshot, logits, settings, folder, progress)
            except tf.errors.ResourceExhaustedError as error:
                if "space" not in str(error):
                    raise
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
            # The artifact stands; what it was made from can be made again.
            for part in PARTS[:-1]:
                shutil.rmtree(folder / part, ignore_errors=True)
        return read_artifact(folder / "artifact", key, logits.fingerprint)


def _make(
    snapshot: Snapshot, logits: LogitsStore, settings: Settings, folder: Path, progress: training.Progress
) -> None:
    made = inputs.prepare(snapshot, logits, settings, folder / "inputs", progress=progress)
    trained = training.distill(
        made.corpus,
        settings.student,
        settings.distillation,
        folder / "run",
        embeddings=made.embeddings,
        predecessor=made.predecessor,
        progress=progress,
    )
    partial = folder / ".artifact.partial"
    shutil.rmtree(partial, ignore_errors=True)
    exported = students.export(trained.encoder, _probe(made.corpus), partial, max_tokens=settings.student.max_tokens)
    wanted = tuple(export for export in PRUNED if export in settings.student.exports)
    if wanted:
        training.prune(
            made.corpus, trained, settings.student, settings.distillation, folder / "pruning", progress=progress
        )
        exported |= students.export(
            trained.encoder, _probe(made.corpus), partial, max_tokens=settings.student.max_tokens, exports=wanted
        )
    _write_cards(trained, made.corpus, exported, settings, partial)
    os.replace(partial, folder / "artifact")  # under its own name only when it is whole


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


def _write_cards(
    trained: training.TrainedStudent, prepared: Corpus, exported: dict[str, str], settings: Settings, folder: Path
) -> None:
    """Write tokenizer, calibrations and training report beside the exports."""
    prepared.tokenizer.save(str(folder / "tokenizer.json"))
    validation = prepared.validation
    labelled = ~np.isnan(validation.labels)
    labels = validation.labels[labelled] >= 0.5
    sentences = np.stack([validation.a[labelled], validation.b[labelled]], axis=1)
    fits: dict[str, calibration.Fit] = {}
    dimension = 0
    for export in settings.student.exports:
        served = Encoder(folder / exported[export], steps=settings.student.max_tokens, threads=1)
        dimension = served.dimension
        cosines = _cosines(served, prepared)[labelled]
        fits[export] = calibration.fit(cosines, validation.labels[labelled].astype(np.float64), sentences)
    teacher = Calibration(scale=prepared.teacher.scale, bias=prepared.teacher.bias, threshold=0.5)
    teacher_threshold = best_threshold(teacher.probabilities(np.asarray(validation.scores[labelled])), labels)
    report = {
        "epochs": [asdict(epoch) for epoch in trained.history],
        "best_epoch": trained.best_epoch,
        "train_pairs": len(prepared.train) - prepared.mined_pairs,
        "mined_pairs": prepared.mined_pairs,
        "validation_pairs": len(validation),
        "vocabulary": prepared.tokenizer.get_vocab_size(),
        "parameters": trained.parameters,
        "teacher_scores_sha256": _digest(prepared.train.scores, validation.scores),
        "calibration": {name: {"method": fit.method, **fit.compared} for name, fit in fits.items()},
        "teacher_calibration": teacher.model_copy(update={"threshold": teacher_threshold}).model_dump(),
    }
    card = {
        "format": CARD_FORMAT,
        "restill": __version__,
        "kind": settings.student.kind,
        "max_tokens": settings.student.max_tokens,
        "dimension": dimension,
        "exports": exported,
        "calibrations": {exported[name]: fit.calibration.model_dump() for name, fit in fits.items()},
    }
    for name, document in ((REPORT, report), (CARD, card)):
        (folder / name).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")


def _digest(*arrays: NDArray[np.float32]) -> str:
    """Return the hex SHA-256 of the arrays' bytes, one after the other, as little-endian float32."""
    found = hashlib.sha256()
    for array in arrays:
        for start in range(0, len(array), HASHED_AT_ONCE):  # they lie in files, and may be larger than memory
            found.update(np.ascontiguousarray(array[start : start + HASHED_AT_ONCE], "<f4").data)
    return found.hexdigest()


def _probe(prepared: Corpus) -> NDArray[np.int32]:
    """Return ids of real sentences, short and long."""
    pairs = prepared.validation
    rows = np.linspace(0, len(pairs) - 1, min(PROBE_SENTENCES, len(pairs))).astype(int)
    return np.ascontiguousarray(prepared.sentences.ids[pairs.a[rows]])


def _cosines(encoder: Encoder, prepared: Corpus) -> NDArray[np.float64]:
    """Return the exported artifact's own cosines on validation: the calibration must fit what will answer."""
    pairs, ids = prepared.validation, prepared.sentences.ids
    cosines = np.empty(len(pairs), np.float64)
    for start in range(0, len(pairs), 1024):
        part = slice(start, start + 1024)
        left, right = encoder.embed(ids[pairs.a[part]]), encoder.embed(ids[pairs.b[part]])
        cosines[part] = (left * right).sum(axis=1)
    return cosines
