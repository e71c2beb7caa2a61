"""Batch rules and their report; the only caller of Great Expectations.

Two suites: one on the accepted rows (a net under the row rules), one on the batch as a whole. What the second one
checks is measured here in one vectorised pass and handed over as a table of one row, so its limits, which depend on
the data set, stand in the report beside what was observed.
"""

import logging
import math
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from restill.pairs import CHINESE, JOINS_TWO_SPLITS, SPLITS, UNKNOWN
from restill.profiles import POSITIVE_FROM, DataSetProfile, code_points, total_length
from restill.settings import BatchRuleSettings

SUITE_VERSION = 1  # raise it when a rule is added or changed
SHOWN_LANGUAGES = 6
TINY = 1e-9
MIN_LABELLED = 20  # fewer labels say nothing about a share

SETTINGS = {
    "row count": "data.batch_rules.min_rows and max_rows",
    "quarantine share": "data.batch_rules.max_quarantine_share",
    "positive share": "data.batch_rules.max_label_shift",
    "mean length ratio": "data.batch_rules.max_length_ratio",
    "language shift": "data.batch_rules.max_language_shift",
    "new characters": "data.batch_rules.max_new_characters",
    "test overlap": "data.batch_rules.max_test_overlap",
}

OFFLINE_STYLE = """
body { font-family: sans-serif; }
table { border-collapse: collapse; }
th, td { padding: 0.2em 0.8em; text-align: left; }
i.fa-check-circle::before { content: "✔"; font-family: sans-serif; color: #1a7f37; }
i.fa-times::before { content: "✘"; font-family: sans-serif; color: #cf222e; }
"""

# Great Expectations keeps its context in global state and is not made for threads.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class RuleResult:
    """What one batch rule found."""

    rule: str
    passed: bool | None  # None: not applicable; `sentence` says why
    observed: str
    allowed: str
    sentence: str
    setting: str = ""  # where the limit is set


@dataclass(frozen=True)
class BatchValidation:
    """What all batch rules found."""

    results: tuple[RuleResult, ...]
    docs_index: Path  # first page of the Data Docs

    @property
    def passed(self) -> bool:
        """Return whether no rule failed."""
        return all(result.passed is not False for result in self.results)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return a sentence for each rule that failed, with the setting that holds its limit."""
        return tuple(
            f"{result.sentence[0].upper()}{result.sentence[1:]}" + (f" ({result.setting})." if result.setting else ".")
            for result in self.results
            if result.passed is False
        )


@dataclass(frozen=True)
class _Rule:
    """One measure and its limits, or why it cannot be taken."""

    name: str
    value: float | None
    least: float | None
    most: float | None
    sentence: str
    as_share: bool = True

    def show(self, value: float) -> str:
        return f"{value:.1%}" if self.as_share else f"{value:,.4g}" if value % 1 else f"{value:,.0f}"

    @property
    def allowed(self) -> str:
        if self.least is None:
            return "–" if self.most is None else f"at most {self.show(self.most)}"
        return f"{self.show(self.least)} to {self.show(self.most)}" if self.most is not None else self.show(self.least)


def validate(
    accepted: pl.DataFrame,
    quarantined: Mapping[str, int],
    reference: DataSetProfile | None,
    rules: BatchRuleSettings,
    *,
    max_characters: int,
    docs_dir: Path,
) -> BatchValidation:
    """Judge a batch that has been split, and build its Data Docs.

    Args:
        accepted: the batch's pairs with `group`, `split` and the sentence keys `key_a` and `key_b`.
        quarantined: number of rows that were kept out, by reason.
        reference: the stored data set; None if there is none yet, and rules that compare are not applicable.
        rules: the limits.
        max_characters: longest sentence the row rules let through.
        docs_dir: folder for the Data Docs, a static site.
    """
    measured = _measure(accepted, quarantined, reference, rules)
    with _one_at_a_time:
        rows_failed, batch_passed = _run_suites(accepted, measured, max_characters, docs_dir)
    results = [
        RuleResult(
            "rows well formed",
            None if accepted.is_empty() else not rows_failed,
            "no rows" if accepted.is_empty() else f"{len(rows_failed)} checks failed",
            "none",
            "not applicable: no row was accepted"
            if accepted.is_empty()
            else f"accepted rows that break their own schema: {', '.join(rows_failed) or 'none'}",
        )
    ]
    for rule in measured:
        if rule.value is None:
            results.append(RuleResult(rule.name, None, "–", "–", f"not applicable: {rule.sentence}"))
        else:
            # A measure that is no number would count as absent, and an absent value passes every range.
            passed = math.isfinite(rule.value) and batch_passed[rule.name]
            results.append(
                RuleResult(rule.name, passed, rule.show(rule.value), rule.allowed, rule.sentence, SETTINGS[rule.name])
            )
    return BatchValidation(tuple(results), docs_dir / "index.html")


def _measure(
    accepted: pl.DataFrame, quarantined: Mapping[str, int], reference: DataSetProfile | None, rules: BatchRuleSettings
) -> list[_Rule]:
    rows_in = accepted.height + sum(quarantined.values())
    # Pairs between two splits are good pairs: how many there are says nothing of the file's quality.
    faulty = sum(count for reason, count in quarantined.items() if reason != JOINS_TWO_SPLITS)
    faults = faulty / rows_in if rows_in else 0.0
    measured = [
        _Rule(
            "row count",
            accepted.height,
            rules.min_rows,
            rules.max_rows,
            f"{accepted.height:,} rows were accepted; a batch has {rules.min_rows:,} to {rules.max_rows:,}",
            as_share=False,
        ),
        _Rule(
            "quarantine share",
            faults,
            None,
            rules.max_quarantine_share,
            f"row rules kept out {faulty:,} of {rows_in:,} rows ({faults:.1%}); "
            f"at most {rules.max_quarantine_share:.1%} is allowed",
        ),
    ]
    if reference is None or reference.rows == 0 or accepted.is_empty():
        why = "no row was accepted" if accepted.is_empty() else "there is no data set yet to compare with"
        names = ("positive share", "mean length ratio", "language shift", "new characters", "test overlap")
        return measured + [_Rule(name, None, None, None, why) for name in names]

    mean_length = total_length(accepted) / (2 * accepted.height)
    languages = {
        language: count / accepted.height for language, count in accepted["language"].value_counts().iter_rows()
    }
    shift = language_shift(languages, reference.languages)
    points = [code_points(accepted[side]) for side in ("text_a", "text_b")]
    unseen = sum(int((~reference.characters[side]).sum()) for side in points) / sum(map(len, points))
    tests = list(reference.test_sentences)
    overlap = accepted.select(pl.any_horizontal(pl.col("key_a", "key_b").is_in(tests)).mean()).item()
    return [
        *measured,
        _label_rule(accepted, reference, rules),
        _Rule(
            "mean length ratio",
            mean_length / reference.mean_length,
            1 / rules.max_length_ratio,
            rules.max_length_ratio,
            f"sentences have {mean_length:.1f} characters on average, the data set's {reference.mean_length:.1f}; "
            f"a factor of up to {rules.max_length_ratio:g} is allowed",
            as_share=False,
        ),
        _Rule(
            "language shift",
            shift,
            None,
            rules.max_language_shift,
            f"languages ({_shares(languages)}) differ from the data set's ({_shares(reference.languages)}) by "
            f"{shift:.1%}; at most {rules.max_language_shift:.1%} is allowed",
        ),
        _Rule(
            "new characters",
            unseen,
            None,
            rules.max_new_characters,
            f"{unseen:.1%} of the characters never occur in the data set; "
            f"at most {rules.max_new_characters:.1%} is allowed",
        ),
        _Rule(
            "test overlap",
            overlap,
            None,
            rules.max_test_overlap,
            f"{overlap:.1%} of the rows repeat a sentence of the frozen test split; "
            f"at most {rules.max_test_overlap:.1%} is allowed",
        ),
    ]


def language_shift(batch: Mapping[str, float], data_set: Mapping[str, float]) -> float:
    """Return the total-variation distance of two language distributions, 0 to 1.

    Where either side has rows that do not tell their language, only Chinese (which is recognised by its characters)
    is held against everything else: an absent language column is no drift.
    """
    if UNKNOWN in batch or UNKNOWN in data_set:
        return abs(_chinese(batch) - _chinese(data_set))
    return 0.5 * sum(abs(batch.get(name, 0.0) - data_set.get(name, 0.0)) for name in batch.keys() | data_set.keys())


def _chinese(languages: Mapping[str, float]) -> float:
    return sum(share for name, share in languages.items() if name.split("-")[0] == CHINESE)


def _label_rule(accepted: pl.DataFrame, reference: DataSetProfile, rules: BatchRuleSettings) -> _Rule:
    labels = accepted["label"].drop_nulls()
    if reference.positive_share is None or min(len(labels), reference.labelled) < MIN_LABELLED:
        why = f"the batch has {len(labels):,} labels and the data set {reference.labelled:,}; {MIN_LABELLED} are needed"
        return _Rule("positive share", None, None, None, why)
    positive = int((labels >= POSITIVE_FROM).sum()) / len(labels)
    return _Rule(
        "positive share",
        positive,
        max(0.0, reference.positive_share - rules.max_label_shift),
        min(1.0, reference.positive_share + rules.max_label_shift),
        f"{positive:.1%} of the labels are positive, in the data set {reference.positive_share:.1%}; "
        f"{rules.max_label_shift * 100:g} points apart are allowed",
    )


def _shares(languages: Mapping[str, float]) -> str:
    # Tags come from the file and go into web pages, so only what looks like a tag is shown.
    tags = {name: share for name, share in languages.items() if re.fullmatch(r"[a-z0-9-]{1,16}", name)}
    common = sorted(tags.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_LANGUAGES]
    rest = 1 - sum(share for _, share in common)
    return ", ".join(f"{name} {share:.0%}" for name, share in common) + (f", others {rest:.0%}" if rest > TINY else "")


def _run_suites(
    accepted: pl.DataFrame, measured: list[_Rule], max_characters: int, docs_dir: Path
) -> tuple[list[str], dict[str, bool]]:
    """Return the row checks that failed, and for each measure whether it passed."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the package is imported
    import great_expectations as gx
    from great_expectations import expectations as gxe
    from great_expectations.core.run_identifier import RunIdentifier

    for name in ("great_expectations", "great_expectations.data_context"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    for site in context.get_site_names():
        context.delete_data_docs_site(site)
    context.add_data_docs_site(
        site_name="restill",
        site_config={
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs_dir)},
        },
    )
    source = context.data_sources.add_pandas("batch")

    def run(name: str, table: pl.DataFrame, checks: list[Any]) -> Any:
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
        suite = context.suites.add(gx.ExpectationSuite(f"{name}-v{SUITE_VERSION}", expectations=checks))
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        return context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table.to_pandas()},
            result_format="SUMMARY",
            run_id=RunIdentifier(run_name="ingest"),
        )

    rows_failed: list[str] = []
    if not accepted.is_empty():
        rows = accepted.select(
            "pair_id",
            "label",
            "language",
            "group",
            "split",
            "row",
            pl.col("text_a").str.len_chars().alias("characters_a"),
            pl.col("text_b").str.len_chars().alias("characters_b"),
        )
        present = [name for name in rows.columns if name != "label"]
        checks = [
            *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in present),
            gxe.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=1),
            gxe.ExpectColumnValuesToBeUnique(column="pair_id"),
            gxe.ExpectColumnValuesToBeUnique(column="row"),
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
            gxe.ExpectColumnValuesToBeBetween(column="characters_a", min_value=1, max_value=max_characters),
            gxe.ExpectColumnValuesToBeBetween(column="characters_b", min_value=1, max_value=max_characters),
        ]
        rows_failed = [
            f"{found.expectation_config.kwargs['column']} {found.expectation_config.type}"
            for found in run("accepted-rows", rows, checks).results
            if not found.success
        ]
    taken = [rule for rule in measured if rule.value is not None]
    found = run(
        "batch-rules",
        pl.DataFrame({rule.name: [rule.value] for rule in taken}),
        [
            gxe.ExpectColumnValuesToBeBetween(
                column=rule.name,
                min_value=rule.least,
                max_value=rule.most,
                description=f"{rule.name}: {rule.sentence}.",
            )
            for rule in taken
        ],
    )
    passed = {result.expectation_config.kwargs["column"]: bool(result.success) for result in found.results}
    context.build_data_docs(site_names=["restill"])
    _make_readable_offline(docs_dir)
    return rows_failed, passed


def _make_readable_offline(docs_dir: Path) -> None:
    """Show marks where the pages' own icons, which come from public servers, cannot be had; drop the tour's films."""
    for page in docs_dir.rglob("*.html"):
        page.write_text(
            page.read_text("utf-8").replace("</head>", f"<style>{OFFLINE_STYLE}</style></head>", 1), "utf-8"
        )
    for film in docs_dir.glob("static/images/*.gif"):
        film.unlink()
