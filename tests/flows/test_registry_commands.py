"""`restill registry verify | gc | repair | promote | rollback`, as a program calls them."""

import json

import pytest
from registered import artifact, register
from typer.testing import CliRunner

from flows.cli.main import app
from restill.registry import Registry


@pytest.fixture
def registry(store, tmp_path, monkeypatch):
    """Give the registry that the commands work on: that of a project of the test's own."""
    connection = store.connection
    (tmp_path / "restill.toml").write_text("")
    monkeypatch.setenv("RESTILL_ROOT", str(tmp_path))
    for name in ("endpoint_url", "bucket", "prefix", "access_key_id", "secret_access_key"):
        monkeypatch.setenv(f"RESTILL_STORAGE__{name.upper()}", getattr(connection, name))
    return Registry(store, "default")


def call(*arguments, code=0):
    result = CliRunner().invoke(app, ["registry", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_program_promotes_verifies_repairs_and_collects(registry, tmp_path):
    made = [register(registry, artifact(tmp_path / name), training_key=name) for name in "ab"]
    for version in made:
        entry = call("promote", version.short, "--force", "--by", "me", "--reason", "a test")
    assert (entry["sequence"], entry["forced"], entry["version"]) == (2, True, made[1].version)
    assert call("rollback", "--reason", "worse")["version"] == made[0].version
    assert [entry["action"] for entry in call("history")] == ["rollback", "promote", "promote"]
    assert call("history", "shadow") == []
    found = call("verify")
    assert (found["whole"], found["problems"], found["entries"], found["versions"]) == (True, [], 3, 2)
    assert found["bytes"] == 120_000

    registry.store.delete("registry/default/champion.json")
    assert call("repair") == {"champion": ["registry/default/champion.json"]}
    assert call("gc", "--dry-run", "--keep", "1")["removed"] == []
    assert call("gc", "--expire-candidates-days", "30")["retired"] == []

    for wrong in ("nan", "-1", "1e9", "soon"):
        refused = CliRunner().invoke(app, ["registry", "gc", "--grace-days", wrong])
        assert (refused.exit_code, "no number of days" in refused.output) == (2, True)

    registry.store.delete(registry.layout.blob(made[0].files[0].sha256))
    found = call("verify", code=1)
    assert not found["whole"]
    assert len(found["problems"]) == 1
