"""Real, untrained students, promoted in a real registry."""

import time
from dataclasses import dataclass
from pathlib import Path

from factories import write_student
from registered import register

from restill.manifests import Manifest, PromotionEntry
from restill.registry import Registry

ALIAS = "champion"
PAIR = ("a b c d", "b c d e")
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Student:
    """The files of a student, by which versions differ."""

    folder: Path
    files: dict[str, str]

    def register(self, registry: Registry) -> Manifest:
        return register(registry, self.folder, self.files)


def make_students(root: Path, number: int) -> list[Student]:
    """Export students that answer differently: they have different sizes."""
    return [
        Student(root / str(size), write_student(root / str(size), size=size, max_tokens=16))
        for size in range(8, 8 + 4 * number, 4)
    ]


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
