"""Versions of random bytes, registered for real."""

import secrets

from restill.manifests import Calibration, Lineage

FILES = {"student.tflite": "litert", "saved_model/saved_model.pb": "saved_model", "tokenizer.json": "tokenizer"}
CALIBRATION = Calibration(scale=10.0, bias=-5.0, threshold=0.5)


def lineage(training_key="key"):
    return Lineage(
        git_commit=None,
        git_dirty=None,
        data_version="data",
        batches=(),
        teacher_fingerprint="teacher",
        training_key=training_key,
        config_digest="config",
        seed=0,
        dependency_lock_sha256=None,
        restill_version="0.1.0",
        hardware="any",
        flow_run_id=None,
        parent=None,
    )


def artifact(folder, files=FILES):
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(secrets.token_bytes(20_000))
    return folder


def register(registry, folder, files=FILES, training_key="key"):
    return registry.register(
        folder,
        files=files,
        artifact_role="litert",
        signature={"input": "int32 [1, 32]"},
        calibration=CALIBRATION,
        lineage=lineage(training_key),
        training={"loss": 0.5},
    )
