"""Small data sets in real projects."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from restill import snapshots
from restill.snapshots import PAIRS, Snapshot
from restill.storage.objects import ObjectStore

SPLITS = ("train", "test", "validation")


def git(folder: Path, *arguments: str) -> str:
    """Run git as a person would, and return what it printed."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *who, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout.rstrip("\n")


def make_project(folder: Path) -> Path:
    """Make a project as a clone of this one is: a Git repository that ignores data and state."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("/data\n.restill/\n.dvc/\n")
    return folder


def write_partition(root: Path, name: str, rows: int = 3) -> None:
    """Write a batch whose bytes depend on its name alone."""
    folder = root / PAIRS / f"batch={name}"
    folder.mkdir(parents=True)
    texts = [f"{name} {number}" for number in range(rows)]
    splits = [SPLITS[number % 3] for number in range(rows)]
    file = folder / snapshots.PARQUET_FILE
    pq.write_table(pa.table({"text_a": texts, "text_b": texts, "split": splits}), file)
    facts = {
        "batch": name,
        "rows": rows,
        "splits": {split: splits.count(split) for split in SPLITS},
        "labels": {"positive": 1, "negative": rows - 1},
        "parquet_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    (folder / snapshots.BATCH_FILE).write_text(json.dumps(facts))


def add(root: Path, store: ObjectStore, name: str, rows: int = 3) -> Snapshot:
    """Publish a version with one more batch."""
    with snapshots.changing(root, store):
        write_partition(root, name, rows)
        return snapshots.publish(root, store, reason=f"ingested {name}.csv as batch {name}")


def texts(snapshot: Snapshot) -> list[str]:
    """Return the distinct sentences of a version."""
    return sorted(set(snapshot.sentences()))
