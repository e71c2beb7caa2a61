"""An exported student on disk, and what its training said of it. Needs no TensorFlow."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restill.manifests import Calibration
from restill.serving import CARD

REPORT = "training.json"


@dataclass(frozen=True)
class Artifact:
    """An exported student on disk, ready to be registered: once for each of its exports."""

    folder: Path
    training_key: str
    teacher_fingerprint: str
    files: dict[str, str]  # path in the folder → role
    calibrations: dict[str, Calibration]  # by export: each has its own, fitted on its own scores
    report: dict[str, Any]  # epochs, losses, counts: what training.json holds


def training_report(folder: Path) -> dict[str, Any]:
    """Return the training report of an artifact folder: epochs, losses, counts, the teacher's calibration."""
    report: dict[str, Any] = json.loads((folder / REPORT).read_text("utf-8"))
    return report


def teacher_calibration(folder: Path) -> Calibration:
    """Return the teacher's calibration that an artifact's training found, with its threshold from validation."""
    return Calibration.model_validate(training_report(folder)["teacher_calibration"])


def read_artifact(folder: Path, key: str, teacher_fingerprint: str) -> Artifact:
    """Return the artifact of a folder that `distillation.distill` filled."""
    card = json.loads((folder / CARD).read_text("utf-8"))
    roles = {path: role for role, path in card["exports"].items()}
    roles |= {"tokenizer.json": "tokenizer", CARD: "calibration", REPORT: "report"}
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Artifact(
        folder=folder,
        training_key=key,
        teacher_fingerprint=teacher_fingerprint,
        files={path: roles[path if path in roles else path.split("/")[0]] for path in paths},
        calibrations={
            export: Calibration.model_validate(card["calibrations"][path])
            for export, path in card["exports"].items()
            if path in card["calibrations"]
        },
        report=training_report(folder),
    )
