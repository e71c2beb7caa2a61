"""The registry's reading commands as a person and a program call them."""

import json
from xml.etree import ElementTree as Xml

import pytest
from measured import measurements
from registered import artifact, register
from typer.testing import CliRunner

from flows.cli import registry
from restill.gates import Verdict
from restill.registry import Registry
from restill.settings import load_settings
from restill.storage import connect


@pytest.fixture(scope="module")
def champions(project, tmp_path_factory):
    """Two versions that were promoted one after the other."""
    settings = load_settings()
    store = Registry(connect(settings.storage, settings.state_dir), settings.registry.model)
    entry, made = None, []
    for name in "ab":
        manifest = register(store, artifact(tmp_path_factory.mktemp("artifacts") / name), training_key=name)
        verdict = Verdict(
            passed=True,
            bootstrap=not made,
            reason="All 12 gates passed.",
            rows=(),
            limits={},
            measurements=measurements(challenger=manifest.version, champion=made[0].version if made else None),
        )
        digest = store.add_verdict(manifest.version, verdict.document())
        entry = store.promote(
            manifest.version,
            alias="champion",
            expected=entry,
            reason=verdict.reason,
            promoted_by="flow run [calm-owl]",
            verdict_sha256=digest,
        )
        made.append(manifest)
    return made


@pytest.fixture
def told(project):
    """Call a command in this process and return what it printed; other exit codes than 0 are tested in their own."""

    def call(*arguments):
        done = CliRunner().invoke(registry.app, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def test_lineage_answers_for_a_person_a_program_and_as_a_picture(champions, told, tmp_path):
    first, second = champions
    picture = tmp_path / "why.svg"
    said = told("lineage", "--picture", str(picture))
    for part in (
        f"{second.short} of default is live as champion",
        "flow run [calm-owl]",
        "All 12 gates passed.",
        "Not known",
    ):
        assert part in said
    assert len(said.splitlines()) < 50  # one screen
    assert Xml.fromstring(picture.read_bytes()).tag.endswith("svg")  # noqa: S314  (our own)
    found = json.loads(told("lineage", "#1", "--json"))
    assert (found["version"], found["live"]) == (first.version, False)
    assert found["lives"][0]["followed_by"] == second.version


def test_diff_takes_names_and_tells_the_same_to_a_program(champions, told):
    first, second = champions
    said = told("diff", "previous", "champion")
    for part in (first.short, second.short, "Not comparable: no answers of", "training key"):
        assert part in said
    found = json.loads(told("diff", "#1", second.short, "--json"))
    assert (found["a"]["version"], found["b"]["version"]) == (first.version, second.version)
    assert found["measured_together"]


def test_exit_codes_of_reading(project, champions, monkeypatch):
    """`main` exits with an error's own code, which test_cli shows."""
    unknown = CliRunner().invoke(registry.app, ["diff", "champion", "#7"])
    assert (unknown.exception.exit_code, str(unknown.exception)) == (
        1,
        "The history of champion has no #7: 2 entries, the last with number 2.",
    )
    assert CliRunner().invoke(registry.app, ["diff", "champion"]).exit_code == 2
    monkeypatch.setenv("RESTILL_STORAGE__ENDPOINT_URL", "http://127.0.0.1:9")
    unreachable = CliRunner().invoke(registry.app, ["lineage"])
    assert unreachable.exception.exit_code == 3
    assert "http://127.0.0.1:9" in str(unreachable.exception)


def test_policies_are_printed_or_written_for_a_bucket(told, tmp_path):
    printed = told("policies", "--role", "reader", "--bucket", "b", "--prefix", "p", "--model", "m")
    assert json.loads(printed)["Statement"][1]["Resource"] == [
        "arn:aws:s3:::b/p/registry/m/*",
        "arn:aws:s3:::b/p/runs/m/*",
    ]
    told("policies", "--partition", "aws-cn", "--out", str(tmp_path))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["bucket", "collector", "promoter", "reader", "trainer"]
    assert "arn:aws-cn:s3:::restill" in (tmp_path / "reader.json").read_text()
