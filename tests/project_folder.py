"""A whole project in a folder of its own: real object store, real DVC, a tiny teacher, and its command line."""

import contextlib
import csv
import functools
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest.mock
from pathlib import Path

from factories import write_tiny_teacher
from prefect.settings import PREFECT_API_URL

from flows.cli.main import main
from restill import sample
from restill.storage import Connection

REPOSITORY = Path(__file__).parents[1]

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


@functools.cache
def drop_rows(name: sample.Drop) -> tuple[list[str], ...]:
    """Return the rows of a sample drop, the names of its columns first; making them takes seconds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        sample.write_drop(name, Path(folder)).open(encoding="utf-8", newline="") as whole,
    ):
        return tuple(csv.reader(whole))


class Project:
    """One project folder and the environment its commands run in; without a connection it has its own S3 server."""

    def __init__(self, root: Path, connection: Connection | None = None, prefix: str = "") -> None:
        self.root = root
        self.environment = {"RESTILL_ROOT": str(root)}
        if connection is not None:
            self.environment |= {
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
        path = self.root / "incoming" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as target:
            csv.writer(target).writerows(drop_rows(name)[: rows + 1])
        return path

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in this process, for commands that run no flow: it saves starting Python."""
        output, errors, code = io.StringIO(), io.StringIO(), 0
        with (
            unittest.mock.patch.dict(os.environ, self.environment | environment),
            unittest.mock.patch.object(sys, "argv", ["restill", *arguments]),
            contextlib.chdir(self.root),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return subprocess.CompletedProcess(["restill", *arguments], code, output.getvalue(), errors.getvalue())

    def restill(
        self, *arguments: str, own_server: bool = False, seconds: float = 240, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line in a process of its own; a flow reports to the session's server, if there is one.

        Args:
            own_server: leave the choice of a server to the command, as where none is set up.
            seconds: after which the command is ended, and the test has failed.
        """
        server = {"PREFECT_API_URL": url} if (url := PREFECT_API_URL.value()) and not own_server else {}
        return subprocess.run(
            [REPOSITORY / ".venv" / "bin" / "restill", *arguments],
            cwd=self.root,
            env={**os.environ, **self.environment, **server, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
