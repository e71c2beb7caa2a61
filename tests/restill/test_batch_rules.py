"""Batch rules: each measures what it is for, with the limits that configuration and data set give."""

import dataclasses
import math

import pytest
from pydantic import ValidationError

from restill.batch_rules import KINDS, WELL_FORMED, Rule, language_shift, rules
from restill.figures import BatchFigures, PairFigures
from restill.pairs import NO_FAULT
from restill.settings import BatchRuleSettings

ACCEPTED = PairFigures(rows=200, labelled=200, positive=100, characters=8_000, languages={"en": 200})
DATA_SET = PairFigures(rows=1_000, labelled=1_000, positive=500, characters=40_000, languages={"en": 1_000})
BATCH = BatchFigures(
    rows_in=200,
    quarantined={},
    accepted=ACCEPTED,
    new_characters=0.0,
    new_words=0.0,
    test_overlap=0,
    repeated=0,
    swapped=0,
    contradicting=0,
    leaked_sentences=0,
    largest_group=2,
    giant_pairs=0,
    violations={"pair_id is unique": 0},
)
LABELLED = {"positive-share"}
COMPARING = {
    "mean-length-ratio",
    "language-shift",
    "new-characters",
    "new-words",
    "test-overlap",
    "repeated-pairs",
    "contradicting-pairs",
}


def batch(accepted: dict[str, object] | None = None, **changes: object) -> BatchFigures:
    pairs = dataclasses.replace(ACCEPTED, **(accepted or {}))
    return dataclasses.replace(BATCH, accepted=pairs, **changes)


def with_kept_out(**reasons: int) -> BatchFigures:
    kept_out = sum(reasons.values())
    return batch({"rows": 200 - kept_out}, quarantined=reasons)


def of_size(rows: int) -> BatchFigures:
    pairs = {"rows": rows, "labelled": 200, "characters": 40 * rows, "languages": {"en": rows}}
    return batch(pairs, rows_in=rows)


def measured(
    figures: BatchFigures = BATCH, data_set: PairFigures | None = DATA_SET, **limits: object
) -> dict[str, Rule]:
    return {rule.name: rule for rule in rules(figures, data_set, BatchRuleSettings.model_validate(limits))}


def keeps_its_limits(rule: Rule) -> bool:
    assert rule.value is not None
    assert rule.most is not None
    return (rule.least is None or rule.value >= rule.least) and rule.value <= rule.most


def not_applicable(found: dict[str, Rule]) -> set[str]:
    return {name for name, rule in found.items() if rule.value is None}


def test_a_batch_like_the_data_set_keeps_every_limit():
    found = measured()
    assert [*found] == [kind.name for kind in KINDS]
    assert all(keeps_its_limits(rule) for rule in found.values())


@pytest.mark.parametrize(
    ("name", "at_the_limit", "beyond"),
    [
        (WELL_FORMED, BATCH, batch(violations={"pair_id is unique": 1, "label in [0, 1]": 0})),
        ("row-count", of_size(20), of_size(19)),
        ("row-count", of_size(10_000_000), of_size(10_000_001)),
        ("quarantine-share", with_kept_out(too_long=40), with_kept_out(too_long=20, duplicate=21)),
        ("positive-share", batch({"positive": 120}), batch({"positive": 121})),
        ("positive-share", batch({"positive": 80}), batch({"positive": 79})),
        ("mean-length-ratio", batch({"characters": 24_000}), batch({"characters": 24_001})),
        ("mean-length-ratio", batch({"characters": 2_667}), batch({"characters": 2_666})),
        ("language-shift", batch({"languages": {"en": 100, "de": 100}}), batch({"languages": {"en": 99, "de": 101}})),
        ("new-characters", batch(new_characters=0.2), batch(new_characters=0.2001)),
        ("new-words", batch(new_words=0.3), batch(new_words=0.3001)),
        ("test-overlap", batch(test_overlap=10), batch(test_overlap=11)),
        ("repeated-pairs", batch(repeated=100), batch(repeated=101)),
        ("contradicting-pairs", batch(contradicting=4), batch(contradicting=5)),
        ("leaked-sentences", BATCH, batch(leaked_sentences=1)),
        ("giant-groups", batch(giant_pairs=100), batch(giant_pairs=101)),
    ],
)
def test_each_rule_on_both_sides_of_its_limit(name, at_the_limit, beyond):
    assert keeps_its_limits(measured(at_the_limit)[name])
    found = measured(beyond)
    assert [other for other, rule in found.items() if not keeps_its_limits(rule)] == [name]


def test_a_limit_that_is_a_sum_of_shares_is_allowed_too():
    """0.7 + 0.1 is less than 0.8 in binary."""
    most = dataclasses.replace(DATA_SET, positive=700)
    assert keeps_its_limits(measured(batch({"positive": 160}), most)["positive-share"])


@pytest.mark.parametrize("name", ["new_characters", "new_words"])
@pytest.mark.parametrize("value", [math.nan, None])
def test_a_measure_that_is_missing_keeps_no_limit(name, value):
    assert not keeps_its_limits(measured(batch(**{name: value}))[name.replace("_", "-")])


@pytest.mark.parametrize("reason", sorted(NO_FAULT))
def test_rows_kept_out_for_no_fault_are_not_held_against_the_file(reason):
    rule = measured(with_kept_out(**{reason: 100, "too_long": 40}))["quarantine-share"]
    assert rule.value == 0.2
    assert rule.sentence == (
        "row rules kept out 40 of 200 rows (20%), besides 100 for no fault of their own; at most 20% is allowed"
    )


def test_no_fault_holds_what_the_split_and_the_data_set_keep_out():
    assert {"joins_two_splits", "already_stored", "forgotten"} <= NO_FAULT
    assert "contradicts_stored" not in NO_FAULT


def test_pairs_that_the_split_keeps_out_count_as_of_their_groups():
    divided = batch(
        {"rows": 100},
        quarantined={"joins_two_splits": 60, "frozen_test": 40, "already_stored": 9},
        giant_pairs=120,
        largest_group=120,
    )
    rule = measured(divided)["giant-groups"]
    assert rule.value == 0.6
    assert "120 of 200 pairs (60%)" in rule.sentence


def test_without_a_data_set_nothing_is_compared():
    for data_set in (None, PairFigures()):
        found = measured(batch(new_characters=None, new_words=None), data_set)
        assert not_applicable(found) == LABELLED | COMPARING
        assert {found[name].sentence for name in LABELLED | COMPARING} == {"there is no data set yet to compare with"}


def test_label_rules_do_not_apply_to_a_batch_without_labels():
    found = measured(batch({"labelled": 0, "positive": 0}))
    assert not_applicable(found) == {"positive-share", "contradicting-pairs"}
    assert {found[name].sentence for name in not_applicable(found)} == {"the batch has no labels"}


def test_labels_that_were_all_kept_out_as_contradictions_are_counted():
    found = measured(batch({"labelled": 0, "positive": 0}, contradicting=30))
    assert not_applicable(found) == {"positive-share"}
    assert not keeps_its_limits(found["contradicting-pairs"])


@pytest.mark.parametrize(("here", "there"), [(19, 1_000), (200, 19), (200, 0)])
def test_few_labels_say_nothing_of_a_share(here, there):
    data_set = dataclasses.replace(DATA_SET, labelled=there, positive=0)
    found = measured(batch({"labelled": here, "positive": here}), data_set)
    assert not_applicable(found) == {"positive-share"}
    assert "20 are needed on both sides" in found["positive-share"].sentence
    assert measured(batch({"labelled": 20, "positive": 20}))["positive-share"].value == 1


def test_a_batch_without_rows_is_measured_by_what_was_kept_out():
    empty = dataclasses.replace(BATCH, accepted=PairFigures(), quarantined={"bad_label": 200}, giant_pairs=0)
    found = measured(empty)
    measurable = {"row-count", "quarantine-share", "repeated-pairs", "contradicting-pairs"}
    assert not_applicable(found) == {kind.name for kind in KINDS} - measurable
    assert not keeps_its_limits(found["row-count"])
    assert "no row was accepted" in found[WELL_FORMED].sentence


def test_a_file_without_rows_has_no_shares():
    nothing = dataclasses.replace(BATCH, accepted=PairFigures(), rows_in=0)
    assert "quarantine-share" in not_applicable(measured(nothing))


def test_severities_are_each_rules_own_unless_configured():
    own = {name for name, rule in measured().items() if rule.severity == "warn"}
    assert own == {"new-words", "repeated-pairs", "giant-groups"}
    found = measured(severity={"new-words": "refuse", "test-overlap": "warn", "giant-groups": "off"})
    assert [found[name].severity for name in ("new-words", "test-overlap", "giant-groups")] == ["refuse", "warn", "off"]
    assert found["giant-groups"].value == 0  # measured all the same


@pytest.mark.parametrize(("configured", "severity"), [({}, "warn"), ({"leaked-sentences": "refuse"}, "refuse")])
def test_leaks_of_a_split_that_came_with_the_file_warn_unless_configured(configured, severity):
    limits = BatchRuleSettings(severity=configured)
    found = {rule.name: rule for rule in rules(BATCH, DATA_SET, limits, leak_severity="warn")}
    assert found["leaked-sentences"].severity == severity


def test_an_empty_batch_is_refused_whatever_is_configured():
    off = {"row-count": "off"}
    assert measured(severity=off)["row-count"].severity == "off"
    assert measured(dataclasses.replace(BATCH, accepted=PairFigures()), severity=off)["row-count"].severity == "refuse"


@pytest.mark.parametrize("severity", [{WELL_FORMED: "off"}, {"row_count": "off"}, {"row-count": "ignore"}])
def test_severities_of_unknown_rules_and_of_the_one_that_always_refuses_are_errors(severity):
    with pytest.raises(ValidationError):
        BatchRuleSettings.model_validate({"severity": severity})


def test_every_configurable_limit_is_named_by_its_rule():
    named = " ".join(kind.setting for kind in KINDS)
    assert all(name in named for name in BatchRuleSettings.model_fields if name != "severity")


def test_what_is_just_over_a_limit_does_not_look_like_the_limit():
    rule = measured(batch(new_characters=0.2001))["new-characters"]
    assert (rule.observed, rule.allowed) == ("20.01%", "at most 20%")


def test_only_what_looks_like_a_language_tag_is_shown():
    rule = measured(batch({"languages": {"en": 150, "<script>": 50}}))["language-shift"]
    assert "languages (en 75%, others 25%) differ" in rule.sentence


def test_language_shift_by_hand():
    assert language_shift({"en": 0.5, "zh": 0.5}, {"en": 1.0}) == pytest.approx(0.5)
    assert language_shift({"de": 1.0}, {"en": 1.0}) == pytest.approx(1.0)
    # A batch that does not tell its languages differs by its Chinese alone.
    assert language_shift({"und": 0.8, "zh": 0.2}, {"en": 0.9, "zh-hans": 0.1}) == pytest.approx(0.1)
