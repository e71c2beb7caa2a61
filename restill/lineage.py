"""What a version was made from, gathered where it was made and written into its manifest."""

import hashlib
import platform
import subprocess
from pathlib import Path

from restill import __version__
from restill.artifacts import Artifact
from restill.manifests import Lineage, Manifest, PromotionEntry, digest_json
from restill.registry import Registry
from restill.settings import Settings
from restill.snapshots import Snapshot, records

LOCK = "requirements/all.lock"
# Settings that say where and how a run works, and nothing of the model that comes out.
_NOT_OF_THE_MODEL = ("root", "storage", "serving", "stack", "run", "logs", "metrics", "approval", "notifications")


def register(
    registry: Registry,
    artifact: Artifact,
    snapshot: Snapshot,
    settings: Settings,
    *,
    export: str,
    champion: PromotionEntry | None,
    flow_run_id: str | None,
) -> Manifest:
    """Register one export of an artifact as a version that says what it was made from."""
    commit, dirty = _git(settings.root)
    lock = settings.root / LOCK
    config = settings.model_dump(
        mode="json",
        exclude={
            **dict.fromkeys(_NOT_OF_THE_MODEL, True),
            "registry": {"signing_key", "trusted_keys"},
        },
    )
    lineage = Lineage(
        git_commit=commit,
        git_dirty=dirty,
        data_version=snapshot.version,
        batches=snapshot.batches,
        teacher_fingerprint=artifact.teacher_fingerprint,
        training_key=artifact.training_key,
        config_digest=digest_json(config),
        seed=settings.distillation.seed,
        dependency_lock_sha256=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        restill_version=__version__,
        hardware=f"{platform.machine()} {platform.system()}",
        flow_run_id=flow_run_id,
        parent=champion.version if champion else None,
        data_record_sha256=records.digest(registry.store, snapshot.version),
        teacher_scores_sha256=artifact.report.get("teacher_scores_sha256"),
        config=config,
    )
    best = artifact.report["epochs"][artifact.report["best_epoch"] - 1]
    return registry.register(
        artifact.folder,
        files=artifact.files,
        artifact_role=export,
        signature={"input": "int32 ids [1, steps], 0 pads", "output": "float32 embedding, unit length"},
        calibration=artifact.calibrations[export],
        lineage=lineage,
        training={"train_pairs": artifact.report["train_pairs"], **best},
    )


def _git(root: Path) -> tuple[str | None, bool | None]:
    """Return commit and whether tracked files differ from it; (None, None) outside a git repository."""
    try:
        commit = _run(root, "rev-parse", "HEAD")
        return commit, bool(_run(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _run(root: Path, *arguments: str) -> str:
    finished = subprocess.run(
        ["git", "-C", str(root), *arguments],  # noqa: S607 (git is found on the PATH like any tool)
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout.strip()
