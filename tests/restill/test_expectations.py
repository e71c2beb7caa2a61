"""Batch rules: each refuses what it is for, and none refuses a batch like the data set."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from restill import splits
from restill.expectations import BatchValidation, language_shift, validate
from restill.pairs import SPLITS
from restill.profiles import CODE_POINTS, DataSetProfile
from restill.settings import BatchRuleSettings

ROWS = 40
TEXTS = [f"turn lamp number {number} on" for number in range(2 * ROWS)]


def batch(
    texts: list[str] = TEXTS, *, positive: float = 0.5, labelled: bool = True, language: str = "en"
) -> pl.DataFrame:
    a, b = pl.Series(texts[::2], dtype=pl.String), pl.Series(texts[1::2], dtype=pl.String)
    rows = len(a)
    labels = [float(number < positive * rows) if labelled else None for number in range(rows)]
    return pl.DataFrame(
        {
            "pair_id": [f"{number:032x}" for number in range(rows)],
            "text_a": a,
            "text_b": b,
            "label": pl.Series(labels, dtype=pl.Float32),
            "language": pl.Series([language] * rows, dtype=pl.String),
            "group": pl.Series(["0" * 16] * rows, dtype=pl.String),
            "split": pl.Series([SPLITS[number % 3] for number in range(rows)], dtype=pl.String),
            "row": range(rows),
            "key_a": splits.sentence_keys(a),
            "key_b": splits.sentence_keys(b),
        }
    )


def profile(*, labelled: int = 1000, test_sentences: tuple[str, ...] = ()) -> DataSetProfile:
    characters = np.zeros(CODE_POINTS, np.bool_)
    characters[:128] = True
    return DataSetProfile(
        rows=1000,
        labelled=labelled,
        positive_share=0.5 if labelled else None,
        mean_length=20.0,
        languages={"en": 1.0},
        characters=characters,
        test_sentences=frozenset(splits.sentence_key(text) for text in test_sentences),
    )


@pytest.fixture
def judge(tmp_path):
    def run(
        accepted: pl.DataFrame,
        reference: DataSetProfile | None = None,
        quarantined: dict[str, int] | None = None,
        **limits: float,
    ) -> BatchValidation:
        rules = BatchRuleSettings.model_validate(limits)
        return validate(accepted, quarantined or {}, reference, rules, max_characters=512, docs_dir=tmp_path)

    return run


def failed(validation: BatchValidation) -> list[str]:
    return [result.rule for result in validation.results if result.passed is False]


def not_applicable(validation: BatchValidation) -> list[str]:
    return [result.rule for result in validation.results if result.passed is None]


def test_a_batch_like_the_data_set_passes_every_rule(judge):
    validation = judge(batch(), profile())
    assert validation.passed
    assert validation.reasons == ()
    assert [result.passed for result in validation.results] == [True] * 8


@pytest.mark.parametrize(
    ("accepted", "rule"),
    [
        (batch(TEXTS[:20]), "row count"),
        (batch(positive=0.7), "positive share"),
        (batch(positive=0.3), "positive share"),
        (batch([text * 4 for text in TEXTS]), "mean length ratio"),
        (batch(["a", "b"] * ROWS), "mean length ratio"),
        (batch(language="de"), "language shift"),
        (batch([f"ĸ{text[:3]}" + "ĸ" * 9 for text in TEXTS]), "new characters"),
    ],
)
def test_each_rule_refuses_what_it_is_for(judge, accepted, rule):
    validation = judge(accepted, profile())
    assert not validation.passed
    assert failed(validation) == [rule]
    assert "(data.batch_rules." in validation.reasons[0]


def test_the_limit_itself_is_allowed(judge):
    assert judge(batch(positive=0.65), profile(), max_label_shift=0.15001).passed
    assert judge(batch(), profile(), {"too_long": 10}, max_quarantine_share=0.2).passed
    assert failed(judge(batch(), profile(), {"too_long": 11}, max_quarantine_share=0.2)) == ["quarantine share"]


def test_pairs_between_two_splits_are_not_held_against_the_file(judge):
    assert judge(batch(), profile(), {"joins_two_splits": 1000}).passed


def test_repeated_test_sentences_refuse_the_batch(judge):
    validation = judge(batch(), profile(test_sentences=(TEXTS[0].upper(), TEXTS[3], TEXTS[4])))
    assert failed(validation) == ["test overlap"]
    assert "7.5% of the rows" in validation.reasons[0]
    assert judge(batch(), profile(test_sentences=(TEXTS[0], TEXTS[1], TEXTS[2]))).passed  # two rows of forty: 5 %


def test_rules_that_cannot_apply_say_why(judge):
    first = judge(batch())
    assert first.passed
    assert not_applicable(first) == [
        "positive share",
        "mean length ratio",
        "language shift",
        "new characters",
        "test overlap",
    ]
    for unlabelled in (judge(batch(labelled=False), profile()), judge(batch(positive=1), profile(labelled=0))):
        assert unlabelled.passed
        assert not_applicable(unlabelled) == ["positive share"]
        assert "20 are needed" in next(result.sentence for result in unlabelled.results if result.passed is None)


def test_a_batch_without_rows_is_refused(judge):
    validation = judge(batch([]), profile(), {"bad_label": 5})
    assert failed(validation) == ["row count", "quarantine share"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("split", "dev"), ("pair_id", "0" * 32), ("label", 1.5), ("text_a", ""), ("group", None), ("row", 1)],
)
def test_a_malformed_row_behind_the_row_rules_is_caught(judge, column, value):
    accepted = batch()
    broken = accepted.with_columns(
        pl.when(pl.col("row") == 5).then(pl.lit(value, accepted.schema[column])).otherwise(pl.col(column)).alias(column)
    )
    assert failed(judge(broken, profile())) == ["rows well formed"]


def test_data_docs_are_a_site_with_both_suites_and_the_sentences(judge, tmp_path):
    validation = judge(batch(positive=0.9), profile())
    assert validation.docs_index == tmp_path / "index.html"
    assert validation.docs_index.is_file()
    pages = "".join(page.read_text("utf-8") for page in tmp_path.rglob("*.html"))
    assert "90.0% of the labels are positive" in pages
    assert "accepted-rows-v1" in pages
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 2_000_000
    assert all(" " not in path.name for path in Path(tmp_path).rglob("*"))


def test_language_shift_by_hand():
    assert language_shift({"en": 0.5, "zh": 0.5}, {"en": 1.0}) == pytest.approx(0.5)
    assert language_shift({"de": 1.0}, {"en": 1.0}) == pytest.approx(1.0)
    # A batch that does not tell its languages differs by its Chinese alone.
    assert language_shift({"und": 0.8, "zh": 0.2}, {"en": 0.9, "zh-hans": 0.1}) == pytest.approx(0.1)
