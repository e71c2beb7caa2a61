"""Great Expectations decides what the rules say, and its Data Docs show that and load nothing."""

import dataclasses
import math
import re
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest

from restill.batch_rules import KINDS, Rule
from restill.expectations import SUITE, BatchValidation, as_line, validate

ORDER = [kind.name for kind in KINDS]


def rule(name: str, value: float | None = 0.0, **changes: object) -> Rule:
    kind = next(kind for kind in KINDS if kind.name == name)
    made = Rule(
        kind.name,
        value,
        0.0 if kind.bounded_below else None,
        0.5,
        kind.severity,
        f"what {name} saw",
        kind.as_share,
        kind.setting,
        kind.note,
    )
    return dataclasses.replace(made, **changes)


def held(docs_dir: Path, *changed: Rule, batch_name: str = "a batch") -> BatchValidation:
    others = {other.name: other for other in changed}
    return validate([others.get(name, rule(name)) for name in ORDER], docs_dir=docs_dir, batch_name=batch_name)


def answers(validation: BatchValidation) -> dict[str, str]:
    return {result.rule: result.answer for result in validation.results if result.answer != "pass"}


class Page(HTMLParser):
    """A page's tables as text, its elements, and everything in it that names something else."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self._open: list[str] = []
        source = page.read_text("utf-8")
        self.references += re.findall(r"url\([^)]*\)|@import[^;]*", source)
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "data", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "link", "br"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self._open[-1:] and {"td", "th"} & {*self._open}:
            self.rows[-1][-1] += " ".join(data.split())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> BatchValidation:
    return held(
        tmp_path_factory.mktemp("docs"),
        rule("positive-share", 0.7),
        rule("new-words", 0.9),
        rule("language-shift", math.nan),
        rule("test-overlap", 0.8, severity="off"),
        rule("new-characters", None, sentence="there is no data set yet"),
        rule("mean-length-ratio", 0.5),
        batch_name='</title><script>alert("x")</script>\u202e.csv',
    )


def test_a_failure_refuses_or_warns_by_its_severity_and_a_nan_never_passes(mixed):
    assert answers(mixed) == {
        "positive-share": "fail",
        "language-shift": "fail",
        "new-characters": "not applicable",
        "new-words": "warn",
        "test-overlap": "off",
    }
    assert not mixed.passed
    assert mixed.reasons == (
        "What positive-share saw (data.batch_rules.max_label_shift).",
        "What language-shift saw (data.batch_rules.max_language_shift).",
    )
    assert mixed.warnings == ("What new-words saw (data.batch_rules.max_new_words).",)


@pytest.mark.parametrize(
    ("value", "one_sided", "two_sided"),
    [
        (0.5, "pass", "pass"),
        (0.25, "pass", "pass"),
        (0.24, "pass", "fail"),
        (0.51, "fail", "fail"),
        (math.nan, "fail", "fail"),
        (math.inf, "fail", "fail"),
    ],
)
def test_every_rule_is_put_to_great_expectations(tmp_path, value, one_sided, two_sided):
    limited = [
        rule(kind.name, value, severity="refuse", least=0.25 if kind.bounded_below else None, most=0.5)
        for kind in KINDS
    ]
    found = {result.rule: result.answer for result in held(tmp_path, *limited).results}
    assert found == {kind.name: two_sided if kind.bounded_below else one_sided for kind in KINDS}


def test_warnings_alone_do_not_refuse(tmp_path):
    validation = held(tmp_path, rule("row-count", 0.9, severity="warn"))
    assert validation.passed
    assert validation.reasons == ()
    assert len(validation.warnings) == 1


def test_the_page_of_the_run_holds_what_was_decided(mixed):
    page = Page(mixed.docs_page)
    ours = {row[0]: row[1:4] for row in page.rows[1 : len(ORDER) + 1]}
    assert [*ours] == ORDER
    assert ours["positive-share"] == ["✘ fail", "70%", "0% to 50%"]
    assert ours["language-shift"] == ["✘ fail", "nan%", "at most 50%"]
    assert ours["new-words"] == ["▲ warn", "90%", "at most 50%"]
    assert ours["test-overlap"] == ["off", "80%", "at most 50%"]
    assert ours["new-characters"] == ["not applicable", "–", "–"]
    assert ours["giant-groups"] == ["✔ pass", "0%", "at most 50%"]
    assert "Refused: 2 rules failed. 1 warning." in page.text
    assert "there is no data set yet" in page.text


def test_great_expectations_shows_the_same_limits_and_measures(mixed):
    theirs = [row[1:] for row in Page(mixed.docs_page).rows if row and row[0] == "" and len(row) == 3]
    assert len(theirs) == len(ORDER) - 2  # without those that are off or not applicable
    assert ["maximum value must be greater than or equal to0.0and less than or equal to0.5.", "0.7"] in theirs
    assert ["maximum value must be less than or equal to0.5.", "0.9"] in theirs
    assert ["maximum value must be less than or equal to0.5.", "--"] in theirs  # no number
    marks = re.findall(r"fa-(check-circle|times|exclamation-triangle)", mixed.docs_page.read_text("utf-8"))
    sections = marks[-len(theirs) :]
    assert sections.count("check-circle") == len(theirs) - 3


def test_the_suite_names_its_parameters_and_what_each_rule_is_for(mixed):
    page = Page(mixed.docs_index.parent / "expectations" / f"{SUITE}.html")
    assert SUITE.endswith("-v2")
    assert "positive_share_least" in page.text
    assert "PARAMETER" not in page.text
    assert next(kind.note for kind in KINDS if kind.name == "giant-groups") in " ".join(page.text.split())


def test_no_page_loads_or_runs_anything(mixed):
    site = mixed.docs_index.parent
    files = [path for path in site.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".html"}
    assert sum(path.stat().st_size for path in files) < 200_000
    for path in files:
        page = Page(path)
        assert "://" not in path.read_text("utf-8")
        assert page.handlers == []
        assert not page.tags & {"script", "img", "iframe", "form", "object", "embed", "base"}
        assert "default-src 'none'" in path.read_text("utf-8")
        links = [reference for reference in page.references if reference != "data:,"]
        if path == mixed.docs_index:
            assert {site / link for link in links} == {*files} - {path}
        else:
            assert links == []


def test_the_name_of_the_batch_is_text(mixed):
    for path in (mixed.docs_index, mixed.docs_page):
        page = Page(path)
        assert '</title><script>alert("x")</script>⟨U+202E⟩.csv' in page.text
        assert "\u202e" not in path.read_text("utf-8")


def test_a_second_run_replaces_the_site(tmp_path):
    held(tmp_path, rule("row-count", 0.9), batch_name="first")
    validation = held(tmp_path, batch_name="second")
    assert [*tmp_path.rglob("validations/**/*.html")] == [validation.docs_page]
    assert "first" not in validation.docs_index.read_text("utf-8")
    assert "Passed" in validation.docs_page.read_text("utf-8")


def test_threads_queue(tmp_path):
    found: dict[int, BatchValidation] = {}

    def run(number: int) -> None:
        found[number] = held(tmp_path / str(number), rule("new-words", number / 4))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(found[number].warnings) for number in range(4)] == [0, 0, 0, 1]


@pytest.mark.parametrize("names", [[], ORDER[1:], [*ORDER, ORDER[0]], [*ORDER[1:], ORDER[0]]])
def test_no_rule_may_be_left_out(tmp_path, names):
    with pytest.raises(ValueError, match=r"The batch rules must be .*Take what batch_rules.rules returns"):
        validate([rule(name) for name in names], docs_dir=tmp_path, batch_name="x")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("two\nlines\tand  more\x00", "two lines and more"),
        ("a\u200bb\u2060c\ufeffd", "a⟨U+200B⟩b⟨U+2060⟩c⟨U+FEFF⟩d"),
        ("\u2066x\u2069\u200f", "⟨U+2066⟩x⟨U+2069⟩⟨U+200F⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u3164", "⟨U+3164⟩"),
        ("上海 café 👍🏽 שלום", "上海 café 👍🏽 שלום"),
    ],
)
def test_hidden_characters_are_shown(value, line):
    assert as_line(value) == line
