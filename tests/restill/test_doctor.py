"""What the doctor says of a good and of a broken setup; what it says of Prefect is in tests/flows/test_stack.py."""

import dataclasses
import shutil

import pytest
from factories import write_tiny_teacher
from pydantic import SecretStr

from restill import doctor
from restill.settings import Settings, StackSettings, StorageSettings, TeacherSettings


def settings_for(root, connection, **storage) -> Settings:
    given = {
        "endpoint_url": connection.endpoint_url,
        "bucket": connection.bucket,
        "access_key_id": SecretStr(str(connection.access_key_id)),
        "secret_access_key": SecretStr(str(connection.secret_access_key)),
    }
    return Settings(
        root=root,
        teacher=TeacherSettings(path=write_tiny_teacher(root / "teacher")),
        storage=StorageSettings(**given | storage),
        stack=StackSettings(),
    )


def answers(settings: Settings) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine(settings)}


def test_a_good_setup_lacks_nothing(tmp_path, store):
    found = answers(settings_for(tmp_path, store.connection, prefix=store.connection.prefix))
    assert [check for check in found.values() if check.answer == "missing"] == []
    assert found["conditional writes"].answer == found["S3"].answer == found["clock"].answer == "ok"
    assert found["data set"].answer == "note"  # there is none yet
    assert list(store.list(".probe/")) == []  # nothing is left of the probe
    assert {path.name for path in tmp_path.iterdir()} <= {"teacher", ".restill"}


def test_each_thing_that_is_missing_is_named_with_how_to_mend_it(tmp_path, store):
    settings = settings_for(tmp_path, store.connection, secret_access_key=SecretStr("wrong" * 8))
    (tmp_path / "teacher" / "model.safetensors").unlink()
    found = answers(settings)
    broken = {name for name, check in found.items() if check.answer == "missing"}
    assert broken == {"teacher", "S3"}
    assert all(found[name].mend for name in broken)
    assert "conditional writes" not in found  # not asked of a store that cannot be reached


def test_a_data_version_that_the_remote_lacks_is_missing(tmp_path, store):
    (tmp_path / "data.dvc").write_text(
        f"outs:\n- md5: {'a' * 32}.dir\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: data\n"
    )
    found = answers(settings_for(tmp_path, store.connection, prefix=store.connection.prefix))
    assert found["data set"].answer == "missing"
    assert "aaaaaaaaaaaa" in found["data set"].said


def test_a_stopped_embedded_server_is_not_started(tmp_path, store):
    settings = settings_for(tmp_path, store.connection).model_copy(update={"storage": StorageSettings()})
    found = answers(settings)
    assert found["S3"].answer == "ok"
    assert "not running" in found["S3"].said
    assert not (tmp_path / ".restill" / "s3" / "server.json").exists()


@pytest.mark.parametrize(("free", "answer"), [(5e8, "missing"), (2e9, "note"), (9e10, "ok")])
def test_a_full_disk_is_told(tmp_path, monkeypatch, free, answer):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=int(free)))
    assert doctor._disk(Settings(root=tmp_path)).answer == answer


def test_a_package_that_is_too_new_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "_KNOWN_BAD", (doctor.Requirement("pydantic<1"),))
    check = doctor._packages()
    assert check.answer == "missing"
    assert "pydantic is" in check.said
    assert dataclasses.asdict(check)["mend"]
