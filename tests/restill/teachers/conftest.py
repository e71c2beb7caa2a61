import shutil
from pathlib import Path

import pytest
from factories import write_tiny_teacher

from restill.settings import TeacherSettings
from restill.teachers import Teacher, load_teacher


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="session")
def teacher(tiny: Path) -> Teacher:
    return load_teacher(TeacherSettings(path=tiny))


@pytest.fixture
def broken(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher that a test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "broken"))


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return [
        "Turn on the kitchen light!",
        "how do i open a new bank account",
        "花呗怎么还款？",
        "x",
        "Why is the cat not in the house, and where did the dog go when it was raining outside?",
    ]
