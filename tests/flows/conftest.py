"""A whole project in a folder of its own: real object store, real DVC, real Prefect, a tiny teacher."""

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import write_tiny_teacher
from prefect.testing.utilities import prefect_test_harness

from restill import sample
from restill.storage import Connection

REPOSITORY = Path(__file__).parents[2]

# Small and quick. Latency is measured for real, but a busy test machine must not decide what is promoted here.
CONFIGURATION = """
[teacher]
path = "teacher"
shard_sentences = 256
[student]
embedding_size = 24
hidden_size = 16
[distillation]
epochs = 4
batch_pairs = 64
learning_rate = 0.01
[latency]
requests = 700
[gates]
resamples = 1000
max_p99_latency_ms = 1000
max_latency_ratio = 50
max_disturbance = 50
min_accuracy = 0.6
min_f1 = 0.5
min_roc_auc = 0.6
max_calibration_error = 0.2
max_accuracy_loss = 0.1
max_slice_loss = 0.3
max_changed_decisions = 0.5
min_slice_pairs = 100
min_clusters = 3
"""


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


class Project:
    """One project folder and the environment its commands run in."""

    def __init__(self, root: Path, connection: Connection, prefix: str) -> None:
        self.root = root
        self.environment = {
            "RESTILL_ROOT": str(root),
            "RESTILL_STORAGE__ENDPOINT_URL": str(connection.endpoint_url),
            "RESTILL_STORAGE__BUCKET": connection.bucket,
            "RESTILL_STORAGE__PREFIX": prefix,
            "RESTILL_STORAGE__ACCESS_KEY_ID": str(connection.access_key_id),
            "RESTILL_STORAGE__SECRET_ACCESS_KEY": str(connection.secret_access_key),
        }
        root.mkdir()
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        shutil.copytree(
            REPOSITORY / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local")
        )
        shutil.copy(REPOSITORY / ".gitignore", root)
        (root / "restill.toml").write_text(CONFIGURATION)
        write_tiny_teacher(root / "teacher")

    def drop(self, name: sample.Drop, rows: int) -> Path:
        """Put the first rows of a sample drop into the incoming folder."""
        whole = sample.write_drop(name, self.root / "drops")
        path = self.root / "incoming" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        with whole.open(encoding="utf-8", newline="") as source, path.open("w", encoding="utf-8", newline="") as target:
            writer = csv.writer(target)
            for number, row in enumerate(csv.reader(source)):
                if number <= rows:
                    writer.writerow(row)
        return path

    def restill(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in a process of its own."""
        return subprocess.run(
            [REPOSITORY / ".venv" / "bin" / "restill", *arguments],
            cwd=self.root,
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, server_connection: Connection, request: pytest.FixtureRequest
) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("project") / "root", server_connection, f"flows/{request.module.__name__}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made
