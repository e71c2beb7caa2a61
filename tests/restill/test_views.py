"""What is derived from the history: written after a promotion, and made again from nothing."""

import json
import logging
import subprocess
import sys

import pytest
from registered import artifact, register

from restill import views
from restill.errors import IntegrityError, StorageUnreachable
from restill.registry import Registry

POINTER = "registry/default/champion.json"
LOADS = """
import sys
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(float(served(tf.constant([2.0]))["tripled"][0]))
"""


@pytest.fixture
def registry(store):
    return Registry(store, "default")


def promote(registry, manifest, expected, alias="champion"):
    return registry.promote(
        manifest.version, alias=alias, expected=expected, reason="better", promoted_by="me", verdict_sha256=None
    )


def test_tensorflow_loads_the_served_directory_without_our_code(registry, tmp_path):
    import tensorflow as tf

    folder = artifact(tmp_path / "artifact", files=("student.tflite",))
    module = tf.Module()
    module.weight = tf.Variable(3.0)
    module.serve = tf.function(
        lambda x: {"tripled": module.weight * x}, input_signature=[tf.TensorSpec([None], tf.float32)]
    )
    tf.saved_model.save(module, str(folder / "saved_model"), signatures={"serving_default": module.serve})
    files = {path.relative_to(folder).as_posix(): "saved_model" for path in folder.rglob("*") if path.is_file()}
    promote(registry, register(registry, folder, files=files | {"student.tflite": "litert"}), None)

    for item in registry.store.list("serving/"):
        registry.store.delete(item.key)
    views.rebuild(registry, "champion", thorough=True)
    for item in registry.store.list("serving/default/1/"):
        registry.store.download(item.key, tmp_path / "served" / item.key.removeprefix("serving/default/1/"))
    found = subprocess.run(
        [sys.executable, "-c", LOADS, str(tmp_path / "served")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
    )
    assert found.stdout.strip() == "6.0", found.stderr


def test_the_pointer_names_what_a_script_needs(registry, tmp_path):
    made = register(registry, artifact(tmp_path / "a"))
    entry = promote(registry, made, None)
    pointer = json.loads(registry.store.get(POINTER))
    assert (pointer["sequence"], pointer["version"]) == (1, made.version)
    assert registry.store.get(pointer["served"]["key"]) == (tmp_path / "a" / "student.tflite").read_bytes()
    assert registry.get_checked(pointer["manifest"], entry.manifest_sha256)
    promote(registry, made, None, alias="shadow")  # another alias has views of its own
    assert json.loads(registry.store.get("registry/default/shadow.json"))["alias"] == "shadow"
    assert registry.store.head("serving/default@shadow/1/saved_model.pb")


def test_repair_puts_right_whatever_was_damaged_and_is_then_idle(registry, tmp_path):
    made = register(registry, artifact(tmp_path / "a"))
    promote(registry, made, None)
    good = {item.key: registry.store.get(item.key) for item in registry.store.list("")}
    sign = "serving/default/1/saved_model.pb"
    wrong = bytes([good[sign][0] ^ 1]) + good[sign][1:]
    for key, body in (
        (POINTER, b"{}"),
        (sign, wrong),
        ("serving/default/1/stray", b"x"),
        ("serving/default/9/x", b"x"),
    ):
        registry.store.delete(key)
        registry.store.create(key, body)
    assert set(views.rebuild(registry, "champion", thorough=True)) == {
        POINTER,
        sign,
        "serving/default/1/stray",
        "serving/default/9/x",
    }
    assert {item.key: registry.store.get(item.key) for item in registry.store.list("")} == good
    assert views.rebuild(registry, "champion", thorough=True) == []


def test_repair_does_not_serve_a_damaged_file(registry, tmp_path):
    made = register(registry, artifact(tmp_path / "a"))
    promote(registry, made, None)
    blob = registry.layout.blob(next(file.sha256 for file in made.files if file.role == "saved_model"))
    for key in (blob, "serving/default/1/saved_model.pb"):
        registry.store.delete(key)
    registry.store.create(blob, b"x" * 20_000)
    with pytest.raises(IntegrityError, match=blob):
        views.rebuild(registry, "champion", thorough=True)
    assert list(registry.store.list("serving/")) == []


def test_a_view_that_cannot_be_written_fails_no_promotion(registry, tmp_path, monkeypatch, caplog):
    made = register(registry, artifact(tmp_path / "a"))

    def refuse(*arguments, **more):
        raise StorageUnreachable("no space left")

    monkeypatch.setattr(registry.store, "copy", refuse)
    with caplog.at_level(logging.WARNING):
        entry = promote(registry, made, None)
    assert registry.champion("champion") == entry
    assert "registry repair" in caplog.text
    monkeypatch.undo()
    assert views.rebuild(registry, "champion") == ["serving/default/1/saved_model.pb"]


def test_who_was_overtaken_does_not_put_the_pointer_back(registry, tmp_path, monkeypatch):
    """Between reading the log and writing the pointer another promotion and its pointer come."""
    made = [register(registry, artifact(tmp_path / name), training_key=name) for name in "ab"]
    first = promote(registry, made[0], None)
    registry.store.delete(POINTER)
    replace, written = registry.store.replace, []

    def overtaken(key, body, **more):
        monkeypatch.undo()
        promote(Registry(registry.store, "default"), made[1], first)
        written.append(replace(key, body, **more))
        return written[0]

    monkeypatch.setattr(registry.store, "replace", overtaken)
    views.rebuild(registry, "champion")
    assert written == [False]
    assert json.loads(registry.store.get(POINTER))["sequence"] == 2
