import json
import math
import runpy
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from restill.errors import ConfigurationError, IntegrityError
from restill.manifests import (
    Calibration,
    FileEntry,
    Lineage,
    Manifest,
    PromotionEntry,
    canonical_json,
    make_manifest,
)

LINEAGE = Lineage(
    git_commit="abc",
    git_dirty=False,
    data_version="d1",
    batches=("b1", "b2"),
    teacher_fingerprint="t1",
    training_key="k1",
    config_digest="c1",
    seed=7,
    dependency_lock_sha256=None,
    restill_version="0.1.0",
    hardware="x86_64 Linux",
    flow_run_id=None,
    parent=None,
)


def make(lineage=LINEAGE, created_at=datetime(2026, 11, 1, tzinfo=UTC), **changes):
    values = {
        "model": "default",
        "artifact_role": "litert",
        "files": (
            FileEntry(path="student.tflite", sha256="a" * 64, bytes=100, role="litert"),
            FileEntry(path="tokenizer.json", sha256="b" * 64, bytes=20, role="tokenizer"),
            FileEntry(path="training.json", sha256="c" * 64, bytes=3, role="report"),
        ),
        "signature": {"input": "int32 [1, 32]"},
        "calibration": Calibration(scale=10.0, bias=-5.0, threshold=0.5),
        "training": {"loss": 0.25, "epochs": 3},
    } | changes
    return make_manifest(lineage=lineage, created_at=created_at, **values)


def test_a_manifest_survives_the_way_through_its_document():
    manifest = make()
    assert Manifest.parse(manifest.document(), "here") == manifest
    assert manifest.served_path == "student.tflite"
    assert manifest.served_bytes == 120  # the training report is not served
    assert manifest.version.startswith(manifest.short)
    assert len(manifest.short) == 12


def test_the_version_names_content_and_training_and_nothing_else():
    version = make().version
    elsewhere = LINEAGE.model_copy(update={"hardware": "arm64 Darwin", "flow_run_id": "run", "git_commit": "def"})
    assert make(elsewhere, created_at=datetime(2027, 1, 1, tzinfo=UTC)).version == version
    assert make(files=tuple(reversed(make().files))).version == version
    for field in ("training_key", "data_version", "teacher_fingerprint"):
        assert make(LINEAGE.model_copy(update={field: "other"})).version != version
    assert make(model="other").version != version
    assert make(calibration=Calibration(scale=10.0, bias=-5.0, threshold=0.6)).version != version
    assert make(artifact_role="tokenizer").version != version


def test_a_manifest_whose_content_was_changed_is_refused():
    content = json.loads(make().document())
    content["files"][0]["sha256"] = "d" * 64
    with pytest.raises(IntegrityError, match="not the digest"):
        Manifest.parse(canonical_json(content), "s3://b/manifest.json")


def test_unknown_fields_of_a_newer_minor_schema_are_kept():
    content = json.loads(make().document()) | {"schema_version": "1.7", "added_later": {"x": [1, 2]}}
    manifest = Manifest.parse(canonical_json(content), "here")
    assert json.loads(manifest.document()) == content


def test_a_newer_major_schema_is_refused_by_name():
    content = json.loads(make().document()) | {"schema_version": "2.0"}
    with pytest.raises(ConfigurationError, match=r"2\.0") as caught:
        Manifest.parse(canonical_json(content), "here")
    assert "Upgrade" in caught.value.hint


def test_a_newer_entry_keeps_its_fields_and_a_newer_major_one_is_refused():
    entry = PromotionEntry(
        model="default",
        alias="champion",
        sequence=1,
        version="a" * 64,
        manifest_sha256="b" * 64,
        promotion_id="x",
        action="promote",
        reason="",
        promoted_by="me",
        at=datetime(2026, 11, 1, tzinfo=UTC),
        replaces_sequence=None,
        previous_entry_sha256=None,
        verdict_sha256=None,
    )
    content = json.loads(entry.document()) | {"schema_version": "1.9", "approved_by": ["a", "b"]}
    assert json.loads(PromotionEntry.parse(canonical_json(content), "here").document()) == content
    with pytest.raises(ConfigurationError, match=r"3\.1"):
        PromotionEntry.parse(canonical_json(content | {"schema_version": "3.1"}), "here")


def test_the_schemas_in_the_docs_are_current():
    folder = Path(__file__).parents[2] / "docs/schemas"
    current = runpy.run_path(str(folder / "export.py"))["schemas"]()
    assert {path.name: path.read_text("utf-8") for path in folder.glob("*.json")} == current


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'"x"', b"\xff", b"[" * 100_000, b'{"schema_version":"1.0"}', b'{"schema_version":null}'],
    ids=range(8),
)
def test_what_is_no_manifest_is_an_integrity_error(body):
    with pytest.raises(IntegrityError, match="s3://b/k"):
        Manifest.parse(body, "s3://b/k")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "",
        ".",
        "a//b",
        "a/",
        "./a",
        "C:/x",
        "C:x",
        "a\\..\\x",
        "\\\\host\\x",
        "a\0b",
        "a\nb",
    ],
)
def test_a_path_that_could_leave_the_folder_is_refused(path):
    with pytest.raises(ValidationError):
        FileEntry(path=path, sha256="a" * 64, bytes=1, role="litert")


@pytest.mark.parametrize(
    "paths", [("model", "Model"), ("\u00e9", "e\u0301"), ("model", "model/x"), ("Model/a/b", "model-1", "model/A")]
)
def test_two_files_may_not_share_a_path_even_where_case_does_not_count(paths):
    twins = [FileEntry(path=path, sha256="a" * 64, bytes=1, role="litert") for path in paths]
    with pytest.raises(ConfigurationError, match="one path"):
        make(files=twins)


def test_the_served_role_must_have_a_file():
    with pytest.raises(ConfigurationError, match="litert_int8"):
        make(artifact_role="litert_int8")


def test_probabilities_match_values_worked_by_hand():
    """Scale 2, bias 1/2: cosine 1/2 gives σ(0) = 1/2, cosine 1 gives σ(1) = 1 / (1 + 1/e)."""
    calibration = Calibration(scale=2.0, bias=0.5, threshold=0.5)
    assert calibration.probabilities([0.5, 1.0]) == pytest.approx([0.5, 1 / (1 + math.exp(-1))])
    with np.errstate(all="raise"):
        assert Calibration(scale=1e6, bias=0, threshold=0.5).probabilities([-1.0, 1.0]).tolist() == [0.0, 1.0]


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_canonical_json_does_not_depend_on_order_and_loses_nothing(value):
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_canonical_json_has_no_nan(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"loss": value})
