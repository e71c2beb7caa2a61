"""What tells two versions apart, with answers worked by hand; and what a person may call a version."""

import evaluated
import numpy as np
import pytest
from measured import accuracy as quality
from measured import latency, measurements
from registered import artifact, lineage

from restill import differences, naming
from restill.errors import VersionNotFound
from restill.gates import Verdict
from restill.manifests import Calibration, digest_json
from restill.measurements import SplitUse, predictions
from restill.registry import Registry

LABELS = [1, 1, 1, 1, 0, 0, 0, 0]
ANSWERS_A = [0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9]  # wrong on the 4th and the 8th
ANSWERS_B = [0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.1]  # wrong on the 7th


@pytest.fixture
def registry(store):
    return Registry(store, "default")


def registered(registry, folder, *, config=None, batches=("one", "two"), **changes):
    config = config if config is not None else {"student": {"kind": "lstm", "hidden_size": 64}, "seed": 1}
    return registry.register(
        artifact(folder),
        files={"student.tflite": "litert", "tokenizer.json": "tokenizer"},
        artifact_role="litert",
        signature={},
        calibration=Calibration(scale=8, bias=0.5, threshold=0.5),
        lineage=lineage().model_copy(
            update={"config": config, "config_digest": digest_json(config), "batches": batches} | changes
        ),
        training={},
    )


def judged(registry, manifest, answers, *, champion=None, split="s" * 12, accuracy=0.9, rows=None):
    """Store a verdict on a version with its answers, and the champion's."""
    rows = rows or evaluated.rows([""] * 8, [""] * 8, LABELS)
    found = {name: evaluated.predictions(values) for name, values in answers.items()}
    digest = registry.add_evidence(manifest.version, "predictions", predictions.to_parquet(rows, found))
    verdict = Verdict(
        passed=True,
        bootstrap=champion is None,
        reason="All gates passed.",
        rows=(),
        limits={},
        measurements=measurements(
            challenger=manifest.version,
            champion=champion.version if champion else None,
            accuracy={"challenger": quality(accuracy), "champion": quality(0.7), "teacher": quality(0.8)},
            latency=latency(p50=1.0 + accuracy),  # the champion's p50 with it
            predictions_sha256=digest,
            test_split=SplitUse(version=split, decisions=0),
        ),
    )
    return registry.add_verdict(manifest.version, verdict.document())


def promoted(registry, manifest, expected=None):
    return registry.promote(
        manifest.version, alias="champion", expected=expected, reason="r", promoted_by="me", verdict_sha256=None
    )


@pytest.fixture
def pair(registry, tmp_path):
    a = registered(registry, tmp_path / "a")
    b = registered(
        registry,
        tmp_path / "b",
        config={"student": {"kind": "lstm", "hidden_size": 96}, "seed": 1, "new": None},
        batches=("two", "three"),
        data_version="data-2",
        hardware="other",
    )
    return a, b


def test_everything_that_tells_two_versions_apart(registry, pair):
    a, b = pair
    judged(registry, a, {"challenger": ANSWERS_A}, accuracy=0.75)
    judged(registry, b, {"challenger": ANSWERS_B, "champion": ANSWERS_A}, champion=a, accuracy=0.875)
    found = differences.read(registry, a, b)
    assert (found.data.added, found.data.removed, found.data.common, found.data.same) == (
        ("three",),
        ("one",),
        1,
        False,
    )
    assert {(change.name, change.a, change.b) for change in found.configuration} == {
        ("student.hidden_size", 64, 96),
        ("new", None, None),  # a key that only one of them has
    }
    assert [(change.name, change.a, change.b) for change in found.made_with] == [("hardware", "any", "other")]
    measures = {measured.name: (measured.a, measured.b) for measured in found.measures}
    assert measures["accuracy"] == (0.7, 0.875)  # of one verdict, which held b to a
    assert measures["latency p50"] == (1.875, 1.875)
    assert measures["served"] == (0.04, 0.04)
    assert found.measured_together
    # Right: A alone on the 7th, B alone on the 4th and the 8th. p = P(at most 1 of 3, or at least 2) = 1.
    answers = found.answers
    assert (answers.pairs, answers.agreement) == (8, 5 / 8)
    assert (answers.only_a_right, answers.only_b_right, answers.p_value) == (1, 2, 1.0)
    assert found.not_comparable is None


def test_answers_to_different_tests_are_not_compared(registry, pair, tmp_path):
    a, b = pair
    judged(registry, a, {"challenger": ANSWERS_A}, split="s" * 12)
    judged(registry, b, {"challenger": ANSWERS_B}, split="t" * 12)
    found = differences.read(registry, a, b)
    assert found.answers is None
    assert not found.measured_together
    assert found.not_comparable == (
        f"they were judged on different test versions: {a.short} on {'s' * 12}, {b.short} on {'t' * 12}"
    )
    # Held to each other they have answered one test, whichever of the two is named first.
    c = registered(registry, tmp_path / "c")
    judged(registry, c, {"challenger": ANSWERS_B, "champion": ANSWERS_A}, champion=a, split="t" * 12, accuracy=0.8)
    assert differences.read(registry, a, c).answers.only_b_right == 2
    turned = differences.read(registry, c, a)
    assert turned.answers.only_a_right == 2
    assert {measured.name: (measured.a, measured.b) for measured in turned.measures}["accuracy"] == (0.8, 0.7)


def test_what_was_never_judged_or_not_kept_is_said(registry, pair):
    a, b = pair
    judged(registry, a, {"challenger": ANSWERS_A})
    found = differences.read(registry, a, b)
    assert found.not_comparable == f"no answers of {b.short} are stored: it was never judged"
    assert {measured.name: measured.b for measured in found.measures}["accuracy"] is None
    assert found.b.passed is None
    older = a.model_copy(update={"lineage": a.lineage.model_copy(update={"config": None})})
    assert differences.read(registry, older, b).configuration is None
    assert differences.read(registry, a, a).configuration == ()


def test_only_pairs_with_one_label_in_both_are_compared():
    rows = evaluated.rows([""] * 4, [""] * 4, [1, 1, 0, 0])
    other = evaluated.rows([""] * 4, [""] * 4, [1, 0, 0, 0])
    other = differences.Rows(**(vars(other) | {"pair_ids": [*rows.pair_ids[:3], "f" * 32]}))

    def answers(rows, values):
        return differences.Answers(rows, evaluated.predictions(values))

    found = differences.answered(answers(rows, [0.9, 0.9, 0.1, 0.1]), answers(other, [0.9, 0.1, 0.9, 0.1]))
    assert (found.pairs, found.only_a_right, found.only_b_right) == (2, 1, 0)
    elsewhere = differences.Rows(**(vars(other) | {"pair_ids": ["e" * 32] * 4}))
    assert "no pair in common" in differences.answered(answers(rows, np.zeros(4)), answers(elsewhere, np.zeros(4)))
    flipped = differences.Rows(**(vars(rows) | {"grades": 1 - rows.grades}))
    assert "labelled anew" in differences.answered(answers(rows, np.zeros(4)), answers(flipped, np.zeros(4)))


def test_a_version_has_several_names(registry, pair):
    a, b = pair
    with pytest.raises(VersionNotFound, match="no champion yet"):
        naming.find(registry, "champion", "champion")
    first = promoted(registry, a)
    with pytest.raises(VersionNotFound, match="no previous"):
        naming.find(registry, "champion", "previous")
    second = promoted(registry, b, first)
    promoted(registry, b, second)  # the same again: what was live before is still a
    for name, wanted in (("champion", b), ("previous", a), ("#1", a), ("#002", b), ("#3", b), (a.short, a)):
        assert naming.find(registry, "champion", name) == wanted
    for wrong in ("#4", "#0", "previous-one", "f" * 64):
        with pytest.raises(VersionNotFound):
            naming.find(registry, "champion", wrong)
