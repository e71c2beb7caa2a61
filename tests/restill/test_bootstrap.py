"""The first run of a fresh clone: data.dvc is there, the data is nowhere."""

import shutil
from pathlib import Path

import pytest

from restill import bootstrap, sample, snapshots
from restill.settings import Settings

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path):
    """A project in the state of a fresh clone."""
    root = tmp_path / "clone"
    shutil.copytree(REPOSITORY / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    return Settings(root=root)


def name(settings, version):
    pointer = f"outs:\n- md5: {version}.dir\n  size: 873967\n  nfiles: 2\n  hash: md5\n  path: data\n"
    (settings.root / "data.dvc").write_text(pointer)
    return pointer


def test_the_sample_is_made_again_to_the_byte(settings, store):
    """The version is pinned: it depends on templates, row rules, split and Parquet writer, all of them locked."""
    before = name(settings, sample.DATA_VERSION)
    outcome = bootstrap.restore_sample(settings, store)
    assert outcome.accepted == 21_854
    assert (settings.root / "data.dvc").read_text() == before
    assert snapshots.current(settings.root).version == sample.DATA_VERSION

    assert bootstrap.restore_sample(settings, store) is None  # it is here
    shutil.rmtree(settings.root / "data")
    shutil.rmtree(settings.root / ".dvc" / "cache")
    assert bootstrap.restore_sample(settings, store) is None  # it is in the remote
    assert snapshots.current(settings.root) is not None


def test_other_data_is_never_replaced_by_the_sample(settings, store):
    before = name(settings, "ab" * 16)
    assert bootstrap.restore_sample(settings, store) is None
    assert (settings.root / "data.dvc").read_text() == before
    assert not (settings.root / "data").exists()


def test_a_sample_that_comes_out_differently_is_refused(settings, store, monkeypatch):
    monkeypatch.setattr(sample, "DATA_VERSION", "cd" * 16)
    before = name(settings, "cd" * 16)
    with pytest.raises(Exception, match="came out as version"):
        bootstrap.restore_sample(settings, store)
    assert (settings.root / "data.dvc").read_text() == before
