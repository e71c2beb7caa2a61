"""Real, untrained students, promoted in a real registry."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from factories import write_student
from registered import register

from restill.manifests import Manifest, PromotionEntry
from restill.registry import Registry

ALIAS = "champion"
PAIR = ("a b c d", "b c d e")
PATIENCE_SECONDS = 60.0
COMMAND = (sys.executable, "-m", "restill.serving")


@dataclass(frozen=True)
class Student:
    """The files of a student, by which versions differ."""

    folder: Path
    files: dict[str, str]

    def register(self, registry: Registry) -> Manifest:
        return register(registry, self.folder, self.files)


def make_students(root: Path, number: int) -> list[Student]:
    """Make students that answer differently: one export, as that takes seconds, and each reads other letters in it."""
    files = write_student(root / "0", size=8, max_tokens=16)
    tokenizer = json.loads((root / "0" / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    letters = [piece for piece in vocabulary if len(piece) == 1]
    for turn in range(1, number):
        shutil.copytree(root / "0", root / str(turn))
        turned = {letter: vocabulary[letters[index - turn]] for index, letter in enumerate(letters)}
        tokenizer["model"]["vocab"] = {**vocabulary, **turned}
        (root / str(turn) / "tokenizer.json").write_text(json.dumps(tokenizer))
    return [Student(root / str(turn), files) for turn in range(number)]


def promote(registry: Registry, version: str) -> PromotionEntry:
    return registry.promote(
        version,
        alias=ALIAS,
        expected=registry.champion(ALIAS),
        reason="a test",
        promoted_by="a test",
        verdict_sha256=None,
    )


def eventually(holds) -> None:
    """Come back as soon as `holds()` is true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


class Service:
    """`python -m restill.serving` in a process of its own."""

    def __init__(self, registry: Registry, root: Path, *, command=COMMAND, **environment: str) -> None:
        at = registry.store.connection
        self.process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "RESTILL_ROOT": str(root),
                "RESTILL_STORAGE__ENDPOINT_URL": at.endpoint_url,
                "RESTILL_STORAGE__BUCKET": at.bucket,
                "RESTILL_STORAGE__PREFIX": at.prefix,
                "RESTILL_STORAGE__ACCESS_KEY_ID": at.access_key_id,
                "RESTILL_STORAGE__SECRET_ACCESS_KEY": at.secret_access_key,
                "RESTILL_SERVING__PORT": "0",
                "RESTILL_SERVING__POLL_SECONDS": "0.1",
                **environment,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self.url = ""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        eventually(lambda: self.url or self.process.poll() is not None)

    def _read(self) -> None:
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"serving \w+ on (http://\S+)", line):
                self.url = found[1]

    def stop(self) -> int:
        """Stop it as an orchestrator does, and return what it exits with."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self._reading.join()
