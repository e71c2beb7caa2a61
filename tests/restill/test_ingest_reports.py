"""The report of a file: short, complete, and text stays text whatever the file holds."""

from pathlib import Path

import polars as pl
import pytest
from shown import Shown, as_viewer

from restill import ingest_reports
from restill.batch_rules import KINDS
from restill.expectations import Answer, BatchValidation, RuleResult
from restill.ingest_reports import as_text, with_links, write_refusal, write_summary
from restill.storage.objects import ObjectInfo

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "![pixel](https://evil.example/p.png)",
    "<https://evil.example>",
    "https://evil.example and www.evil.example and a@evil.example",
    "a | b || c",
    "`code` **bold** __bold__ ~~gone~~ $x$ #tag",
    "&lt;b&gt; &#60;b&#62; &amp;",
    "back\\slash \\| \\[x\\](y)",
    "[x](data-docs/y)|",
    "# heading\n\n* item\n\n---\n\n| a |\n|---|",
    "- item",
    "+ item",
    "1. item",
    "=====",
    "> quoted",
    "javascript:alert(1)",
]


def result(name: str, answer: Answer, setting: str = "") -> RuleResult:
    severity = {"off": "off", "warn": "warn"}.get(answer, "refuse")
    return RuleResult(name, severity, answer, "70%", "at most 50%", f"what {name} saw", setting)


def validation(**answers: Answer) -> BatchValidation:
    found = {name.replace("_", "-"): answer for name, answer in answers.items()}
    results = tuple(result(kind.name, found.get(kind.name, "pass"), kind.setting) for kind in KINDS)
    return BatchValidation(results, Path("index.html"), Path("page.html"))


def rows(*texts: str, **more: list[object]) -> pl.DataFrame:
    return pl.DataFrame({"row": range(1, len(texts) + 1), "text_a": texts, "text_b": texts, "label": 1.0} | more)


NO_ROWS = rows().with_columns(pl.lit("").alias("reason"))


def summary(folder: Path, headline: str = "x.csv was accepted", **changes: object) -> str:
    arguments = {
        "validation": validation(),
        "detected": [],
        "splits": {"train": 70, "validation": 10, "test": 20},
        "rows_in": 100,
        "accepted": 100,
        "reasons": {},
        "quarantine_examples": NO_ROWS,
        "examples": lambda name: None,
        "leaked_sentences": 0,
        "notes": [],
    }
    write_summary(folder, headline, **(arguments | changes))
    return (folder / ingest_reports.SUMMARY).read_text("utf-8")


def test_the_sum_the_splits_and_how_the_file_was_read_are_shown(tmp_path):
    text = summary(
        tmp_path,
        accepted=90,
        reasons={"too_long": 4, "duplicate": 6},
        detected=["The file is CSV."],
        notes=["3 rows are swapped."],
        leaked_sentences=2,
    )
    assert "100 rows in = 90 accepted + 10 quarantined. Sentences in more than one split: 2." in text
    assert "| validation | 10 |" in text
    assert "* The file is CSV." in text
    assert "* 3 rows are swapped." in text
    assert text.index("| duplicate | 6 | the same pair") < text.index("| too\\_long | 4 | a side has more characters")


def test_rows_that_are_missing_from_the_sum_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="100 rows in, 90 accepted, 9 quarantined"):
        summary(tmp_path, accepted=90, reasons={"too_long": 9})


def test_every_rule_is_there_with_its_answer(tmp_path):
    text = summary(tmp_path, validation=validation(new_words="warn", row_count="fail", test_overlap="off"))
    for kind in KINDS:
        assert f"| {kind.name} | " in text
    assert "| new-words | **warn** | 70% | at most 50% | warn | what new-words saw |" in text
    assert "| row-count | **fail** |" in text
    assert "| test-overlap | **off** |" in text
    assert "| positive-share | pass |" in text


def test_rules_that_failed_or_warned_show_ten_rows_each(tmp_path):
    asked = []

    def examples(name: str) -> pl.DataFrame | None:
        asked.append(name)
        return None if name == "row-count" else rows(*(f"{name} {number}" for number in range(12)), note=["why"] * 12)

    answers = validation(new_words="warn", contradicting_pairs="fail", row_count="fail", test_overlap="off")
    text = summary(tmp_path, validation=answers, examples=examples)
    assert asked == ["row-count", "new-words", "contradicting-pairs"]
    for name in ("new-words", "contradicting-pairs"):
        assert f"## Rows behind {name}" in text
        assert f"| 10 | {name} 9 | {name} 9 | 1 | why |" in text
        assert f"{name} 10" not in text
    assert "Rows behind row-count" not in text


def test_what_to_do_names_command_setting_and_severity(tmp_path):
    text = summary(
        tmp_path,
        accepted=99,
        reasons={"too_long": 1},
        validation=validation(new_words="warn", row_count="fail", leaked_sentences="fail"),
        report_id="0123456789abcdef",
    )
    assert "`restill quarantine show 0123456789abcdef`" in text
    assert "`restill quarantine release`" in text
    assert "`restill ingest`" in text
    assert "`data.batch_rules.min_rows` and `max_rows`" in text
    assert '`row-count = "warn"` under `[data.batch_rules.severity]`' in text
    assert '`new-words = "off"`' in text
    assert "What to do" not in summary(tmp_path)


def test_quarantined_rows_are_shown_as_they_came(tmp_path):
    came = rows("x" * 61, "y").with_columns(reason=pl.lit("too_long"), label=pl.Series(["maybe", None]))
    text = summary(tmp_path, accepted=98, reasons={"too_long": 2}, quarantine_examples=came)
    assert f"| 1 | too\\_long | {'x' * 59}… | {'x' * 59}… | maybe |" in text
    assert "| 2 | too\\_long | y | y |  |" in text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_from_outside_stays_text(tmp_path, hostile):
    plain = " ".join(hostile.split())
    text = summary(
        tmp_path,
        hostile,
        validation=validation(new_words="warn"),
        examples=lambda name: rows(hostile, note=[hostile]),
        detected=[hostile],
        notes=[hostile],
    )
    page = (tmp_path / ingest_reports.PAGE).read_text("utf-8")
    for shown in (as_viewer(text), Shown(page)):
        assert shown.cells.count(plain) == 3
        assert shown.text.count(plain) >= 6
        assert [address for address in shown.addresses if address not in ("data-docs/index.html", "data:,")] == []
        assert not {*shown.tags} & {"script", "img", "em", "s", "blockquote", "ol", "hr"}
        assert shown.tags.count("h1") == 1
    # Viewers that make links of bare addresses look for them in the source.
    assert "://" not in text
    assert "www." not in text
    assert "@" not in text


def test_directions_and_hidden_characters_are_shown(tmp_path):
    text = summary(tmp_path, "gpj\u202e.exe\u200b", validation=validation(), notes=["\u2066a\u2069"])
    page = (tmp_path / ingest_reports.PAGE).read_text("utf-8")
    for found in (text, page):
        assert "gpj⟨U+202E⟩.exe⟨U+200B⟩" in found
        assert "⟨U+2066⟩a⟨U+2069⟩" in found
        assert not {*"\u202e\u200b\u2066\u2069"} & {*found}


def test_a_lone_surrogate_does_not_cost_the_report(tmp_path):
    assert "⟨U+DC80⟩" in summary(tmp_path, "a\udc80.csv")


def test_the_page_for_a_browser_loads_nothing_and_links_nowhere(tmp_path):
    summary(tmp_path, accepted=99, reasons={"too_long": 1})
    page = (tmp_path / ingest_reports.PAGE).read_text("utf-8")
    assert Shown(page).addresses == ["data:,"]
    assert "default-src 'none'" in page
    assert "<table>" in page
    assert "data-docs/index.html" in page  # as text: a presigned page has no neighbours


def test_a_file_that_could_not_be_read_has_both_pages(tmp_path):
    write_refusal(tmp_path, "x.csv was refused", ("Line 3 is <ragged>.", "Second."))
    assert (tmp_path / ingest_reports.SUMMARY).read_text("utf-8") == (
        "# x.csv was refused\n\n* Line 3 is &lt;ragged&gt;.\n* Second.\n"
    )
    assert "<li>Line 3 is &lt;ragged&gt;.</li>" in (tmp_path / ingest_reports.PAGE).read_text("utf-8")


class Bucket:
    """An object store in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}

    def uri(self, key: str = "") -> str:
        return f"s3://bucket/{key}"

    def create(self, key, content, *, content_type):
        self.objects[key] = (content.read_bytes(), content_type)

    def get(self, key):
        return self.objects[key][0]

    def list(self, prefix):
        return [ObjectInfo(key, 1, None) for key in sorted(self.objects) if key.startswith(prefix)]

    def presign(self, key, *, seconds):
        return f"https://bucket.example/{key}?for={seconds}"


def test_links_open_the_pages_that_stand_alone(tmp_path):
    store = Bucket()
    for name in ("data-docs/index.html", "data-docs/expectations/s.html", "data-docs/validations/s/p.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("page")
    (tmp_path / ingest_reports.QUARANTINE).write_bytes(b"rows")
    summary(tmp_path, "[x](quarantine)|", accepted=99, reasons={"too_long": 1})
    report = ingest_reports.upload(tmp_path, store, "reports/ingest/0")
    assert [*store.objects][-1] == "reports/ingest/0/summary.md"
    assert store.objects["reports/ingest/0/summary.html"][1] == "text/html; charset=utf-8"

    page = with_links(report, store, seconds=7 * 86_400)
    shown = as_viewer(page)
    assert shown.addresses == [
        f"https://bucket.example/reports/ingest/0/{name}?for=604800"
        for name in ("data-docs/validations/s/p.html", "quarantine.parquet", "summary.html")
    ]
    assert "these links hold for 7 days" in page
    assert "[x](quarantine)|" in shown.text


@pytest.mark.parametrize("value", ["62.5% of 3", "上海 café", "3 rows", "-5 apples"])
def test_plain_text_is_left_as_it_is(value):
    assert as_viewer(as_text(value)).text.strip() == value
