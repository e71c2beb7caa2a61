"""Why a version is live: gathered from a real store, told in sentences, drawn; what is unknown is said."""

import hashlib
from datetime import UTC, datetime
from xml.etree import ElementTree as Xml

import pytest
from measured import accuracy, measurements
from registered import artifact, lineage

from restill import ledger, lineage_picture, provenance, telling
from restill.gates import Verdict
from restill.gates.verdict import Answer, row
from restill.ledger import BatchOutcome
from restill.manifests import Calibration
from restill.measurements import SplitUse
from restill.registry import Registry
from restill.snapshots import records
from restill.snapshots.contents import FileRecord, version_of
from restill.snapshots.records import BatchRecord, VersionRecord

FILES = (FileRecord(path="pairs/batch=one/part-0.parquet", md5="1" * 32, sha256="2" * 64, bytes=10),)
DATA = version_of(FILES)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def registry(store):
    return Registry(store, "default")


def registered(registry, folder, **changes):
    return registry.register(
        artifact(folder),
        files={"student.tflite": "litert", "tokenizer.json": "tokenizer"},
        artifact_role="litert",
        signature={},
        calibration=Calibration(scale=8, bias=0.5, threshold=0.5),
        lineage=lineage().model_copy(update={"data_version": DATA} | changes),
        training={},
    )


def judged(registry, manifest, quality, reason="All gates passed."):
    verdict = Verdict(
        passed=True,
        bootstrap=False,
        reason=reason,
        rows=(
            row("accuracy_floor", Answer.PASS, f"{quality}", "at least 0.8", "s"),
            row("golden", Answer.NOT_APPLICABLE, "", "", "s"),
        ),
        limits={},
        measurements=measurements(
            challenger=manifest.version,
            champion=manifest.lineage.parent,
            accuracy={"challenger": accuracy(quality), "champion": accuracy(0.8)},
            test_split=SplitUse(version="s" * 12, decisions=2),
        ),
    )
    return registry.add_verdict(manifest.version, verdict.document())


def promoted(registry, manifest, expected, verdict, **more):
    return registry.promote(
        manifest.version,
        alias="champion",
        expected=expected,
        verdict_sha256=verdict,
        **({"reason": "All gates passed.", "promoted_by": "flow run calm-owl 7"} | more),
    )


def accepted(batch, file, *, rows=100, warnings=(), day=1):
    return BatchOutcome(
        outcome="accepted",
        file_name=file,
        batch_id=batch,
        rows_in=rows + 5,
        accepted=rows,
        quarantined={"duplicate": 5},
        reasons=(),
        warnings=warnings,
        at=datetime(2026, 3, day, 4, 5, tzinfo=UTC),
        report=f"s3://restill/reports/ingest/{batch}/summary.md",
    )


@pytest.fixture
def chain(registry, tmp_path):
    """Three champions, the last rolled back to the second; two batches, the second one only in the third version."""
    for outcome in (
        accepted("one", "first.csv"),
        accepted("two", "second\u202e.csv", warnings=("Half of it is Chinese.",), day=2),
    ):
        ledger.record(outcome, outcome.file_name.encode().hex(), registry.store)
    record = VersionRecord(
        version=DATA,
        parent=None,
        at=datetime(2026, 3, 2, 4, 6, tzinfo=UTC),
        reason="ingested second.csv",
        batches=(
            BatchRecord(batch="one", rows=100, splits={"train": 80, "test": 20}, quarantined={"duplicate": 5}),
            BatchRecord(batch="two", rows=100, splits={"train": 100}, quarantined={"duplicate": 5}),
        ),
        files=FILES,
        size=10,
        nfiles=1,
    )
    records.write(registry.store, record)
    written = hashlib.sha256(registry.store.get(records.key(DATA))).hexdigest()
    known = {"data_record_sha256": written, "teacher_scores_sha256": "e" * 64}
    known |= {"git_commit": "c" * 40, "git_dirty": False, "dependency_lock_sha256": "d" * 64, "flow_run_id": "run-7"}
    first = registered(registry, tmp_path / "1", batches=("one",), config={"seed": 0}, **known)
    second = registered(registry, tmp_path / "2", batches=("one",), parent=first.version, config={"seed": 0}, **known)
    third = registered(registry, tmp_path / "3", batches=("one", "two"), parent=second.version, git_dirty=True)
    entry = promoted(registry, first, None, judged(registry, first, 0.85))
    entry = promoted(
        registry, second, entry, None, forced=True, promoted_by="Ada", reason="the gate is wrong about timers"
    )
    promoted(registry, third, entry, judged(registry, third, 0.95))
    return first, second, third


def test_a_live_version_says_who_when_instead_of_what_and_from_what(registry, chain):
    first, second, third = chain
    found = provenance.read(registry, third, alias="champion")
    (life,) = found.lives
    assert (found.live, life.number, life.by, life.instead_of) == (True, 3, "flow run calm-owl 7", second.version)
    assert life.until is None
    assert found.judgement.named_by_promotion
    assert found.judgement.accuracy == {"challenger": 0.95, "champion": 0.8}
    new, old = found.batches
    assert (new.batch, new.new, new.rows, new.quarantined) == ("two", True, 100, 5)
    assert new.validation.endswith("was accepted as batch two: 100 of 105 rows; quarantined: 5 duplicate.")
    assert new.warnings == ("Half of it is Chinese.",)
    assert (old.batch, old.new) == ("one", False)
    assert found.splits == {"train": 180, "test": 20}
    assert [(ancestor.version, ancestor.number, ancestor.forced) for ancestor in found.ancestors] == [
        (second.version, 2, True),
        (first.version, 1, False),
    ]
    assert [ancestor.accuracy for ancestor in found.ancestors] == [None, 0.85]
    assert [sentence.split(":")[0] for sentence in found.unknown] == [
        "The code it was made with",
        "The packages it was made with",
        "The scores it learned from",
        "Its settings",
        "The run that made it",
    ]


def test_a_record_of_the_data_that_is_not_the_one_learned_from_is_said(registry, chain, tmp_path):
    first, _, _ = chain
    assert provenance.read(registry, first, alias="champion").unknown == ()
    other = registered(registry, tmp_path / "4", batches=("one",), data_record_sha256="f" * 64)
    said = provenance.read(registry, other, alias="champion").unknown
    assert any("is not the one that it learned from" in sentence for sentence in said)


def test_a_version_that_was_rolled_back_says_until_when_and_to_what(registry, chain):
    _, second, third = chain
    registry.rollback("champion", to=second.short, reason="wrong on timers", by="Bob")
    found = provenance.read(registry, third, alias="champion")
    assert not found.live
    assert found.lives[0].followed_by == second.version
    assert telling.headline(found).startswith(f"Version {third.short} of default is not live: {second.short} followed")
    again = provenance.read(registry, second, alias="champion")
    assert [(life.number, life.action, life.forced) for life in again.lives] == [
        (2, "promote", True),
        (4, "rollback", False),
    ]
    assert again.live
    assert "as a rollback" in telling.headline(again)
    text = said(again)
    assert "FORCED by a person against the gates" in text
    assert "Whether any gate would pass it: it has no stored verdict." in text


def test_a_version_that_was_never_live_says_why(registry, chain, tmp_path):
    refused = registered(registry, tmp_path / "4", batches=("one", "gone"), parent="f" * 64)
    judged(registry, refused, 0.5, reason="accuracy_floor failed.")
    found = provenance.read(registry, refused, alias="champion")
    assert telling.headline(found).endswith("was never champion. accuracy_floor failed.")
    assert found.judgement.named_by_promotion is False
    assert found.ancestors[0].batches is None
    text = said(found)
    assert f"What came before {'f' * 12}: its manifest is gone from the registry." in text
    assert "What validation said of 1 of the batches (gone): no decision on a file names them." in text


def test_the_picture_tells_the_same_and_needs_nothing_else(registry, chain):
    found = provenance.read(registry, chain[2], alias="champion")
    document = lineage_picture.draw(found)
    svg = Xml.fromstring(document)  # noqa: S314  (our own)
    drawn = [element.text for element in svg.iter(f"{SVG}text")]
    whole = "".join(drawn).replace(" ", "")
    for section in telling.sections(found):
        if section.title == "Before it":  # the chain at the bottom
            continue
        for line in section.lines:
            assert line.text.replace(" ", "") in whole, line
    for version in chain:
        assert version.short in drawn
    assert b"http" not in document.replace(b"http://www.w3.org/2000/svg", b"")
    width, height = (float(value) for value in svg.get("viewBox").split()[2:])
    for element in svg.iter(f"{SVG}text"):
        size = float(element.get("font-size")) * 0.61
        assert float(element.get("x")) + size * len(element.text) <= width
        assert float(element.get("y")) <= height


def test_a_long_chain_shows_its_ends(registry, chain):
    found = provenance.read(registry, chain[2], alias="champion")
    many = tuple(
        found.ancestors[0].model_copy(update={"version": f"{number:064x}"[::-1], "number": number})
        for number in range(20, 0, -1)
    )
    long = found.model_copy(update={"ancestors": many})
    drawn = [element.text for element in Xml.fromstring(lineage_picture.draw(long)).iter(f"{SVG}text")]  # noqa: S314
    assert "+15" in drawn
    for shown in (many[-1], many[0]):
        assert shown.version[:12] in drawn
    assert f"and 14 more, back to {many[-1].version[:12]}" in said(long)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two", "three"]),
        ("unbreakable", ["unbreaka", "ble"]),
        ("开灯关灯开", ["开灯关灯", "开"]),
        ("a 开灯关灯", ["a", "开灯关灯"]),
        ("", [""]),
    ],
)
def test_lines_break_between_words_and_wide_letters_count_twice(text, lines):
    assert lineage_picture._wrapped(text, 8) == lines


def said(found):
    lines = [line for section in telling.sections(found) for line in section.lines]
    assert all(line.text.isprintable() for line in lines)
    return "\n".join(f"{line.label} {line.text}" for line in lines)
