"""The report of a decision: complete, whatever is missing; self-contained; and text stays text."""

import base64
import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluated import (
    evaluate,
    judge,
    manifest,
    predictions,
    random_answers,
    rows,
    training_report,
)
from shown import Shown, as_viewer

from restill import reports
from restill.gates import GATES, Answer
from restill.measurements import Interval, SliceComparison
from restill.reports import pictures
from restill.reports.quality import most_disagreed

HOSTILE = "<script>alert(1)</script> | a\nb \x00[x](https://evil.example) \u202egpj $x_$ **b**"
HARMLESS = "<script>alert(1)</script> | a b [x](https://evil.example) ⟨U+202E⟩gpj $x_$ **b**"
SECTIONS = [
    "Verdict",
    "Gates",
    "Quality on the test split",
    "Slices",
    "Scores and calibration",
    "Latency and size",
    "Behaviour",
    "Where the models disagree most",
    "Training",
    "Data",
    "Lineage and files",
]


def measured(pairs=300, champion=True, texts=None, positive=0.5, slices=None, **changes):
    """Return an evaluation of random answers, in which text number n is `a n`."""
    labels = np.random.default_rng(0).random(pairs) < positive
    texts = texts or [f"a {place}" for place in range(pairs)]
    answers = {"challenger": random_answers(labels, skill=2.0, seed=1)}
    if champion:
        answers["champion"] = random_answers(labels, skill=1.9, seed=2)
    answers["teacher"] = random_answers(labels, skill=2.5, seed=3)
    return evaluate(rows(texts, texts, labels, slices), answers, **changes)


def write(folder, evaluation, training=None, champion=None, **lineage):
    report = training_report() if training is None else training
    return reports.write_report(folder, judge(evaluation), evaluation, manifest(**lineage), report, champion=champion)


@pytest.fixture
def undrawn(monkeypatch):
    """Leave pictures out of what is written: drawing is what takes the time."""
    monkeypatch.setattr(pictures, "_uri", lambda *_: "data:,")


class Page(HTMLParser):
    """The tables of a page by caption, its pictures, and its addresses."""

    def __init__(self, source):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.pictures: list[dict[str, str]] = []
        self.ids, self.links, self.scopes = [], [], []
        self._text: str | None = None
        self._rows: list[list[str]] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "a":
            self.links.append(attributes["href"])
        elif tag == "img":
            self.pictures.append(attributes)
        elif tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th", "caption"):
            self._text = ""
            self.scopes += [attributes.get("scope")] if tag == "th" else []

    def handle_data(self, data):
        if self._text is not None:
            self._text += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self.tables[self._text] = self._rows
        elif tag in ("td", "th"):
            self._rows[-1].append(self._text)
        if tag in ("td", "th", "caption"):
            self._text = None

    def svgs(self):
        return [
            base64.b64decode(picture["src"].removeprefix("data:image/svg+xml;base64,")).decode()
            for picture in self.pictures
        ]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A challenger against a champion that lacks one of its batches and has one that it lacks."""
    evaluation = measured(slices={"language=en": np.arange(300) < 150, "language=zh": np.arange(300) >= 250})
    before = manifest(("first", "gone"), data_version="0" * 32)
    return evaluation, write(tmp_path_factory.mktemp("compared"), evaluation, champion=before)


def test_the_page_stands_alone(compared):
    _, report = compared
    assert report.path.name == "report.html"
    assert report.path.read_text("utf-8") == report.html
    assert (report.path.parent / "model_card.md").read_text("utf-8") == report.markdown
    shown = Shown(report.html)
    assert all(address.startswith(("#", "data:")) for address in shown.addresses)
    assert not {"script", "iframe", "object", "embed", "form"} & {*shown.tags}
    assert "default-src 'none'" in report.html
    assert len(report.html) < 3_000_000


def test_sections_come_in_order_and_the_contents_lead_to_them(compared):
    _, report = compared
    assert re.findall(r"<h2>(.*?)</h2>", report.html) == SECTIONS
    page = Page(report.html)
    assert page.links == [f"#{name}" for name in page.ids]
    assert re.findall(r"^## (.*)$", report.markdown, re.MULTILINE) == SECTIONS


def test_pictures_and_tables_can_be_read_without_eyes(compared):
    _, report = compared
    page = Page(report.html)
    assert len(page.pictures) == 5
    assert all(len(picture["alt"]) > 40 for picture in page.pictures)
    assert report.html.count("<table") == report.html.count("<caption>") == len(page.tables)
    assert {*page.scopes} == {"col", "row"}


def test_every_gate_has_its_row(compared):
    evaluation, report = compared
    table = Page(report.html).tables["Gates: all that apply must pass"]
    signs = {Answer.PASS: "✔ pass", Answer.FAIL: "✘ fail", Answer.NOT_APPLICABLE: "– n/a"}
    verdict = judge(evaluation)
    assert len(verdict.rows) == len(GATES)
    assert table[1:] == [
        [row.gate, signs.get(row.answer, "▲ inconclusive"), row.observed, row.limit, row.sentence]
        for row in verdict.rows
    ]
    cells = as_viewer(report.markdown).cells
    for row in verdict.rows:
        at = cells.index(row.gate)
        assert cells[at + 1 : at + 5] == [row.answer, row.observed, row.limit, row.sentence]


@pytest.mark.usefixtures("undrawn")
def test_a_gate_that_is_off_is_shown_as_off(tmp_path):
    evaluation = measured()
    verdict = judge(evaluation)
    off = verdict.rows[0].model_copy(update={"answer": Answer.OFF})
    verdict = verdict.model_copy(update={"rows": (off, *verdict.rows[1:])})
    report = reports.write_report(tmp_path, verdict, evaluation, manifest(), training_report())
    assert '<td class="answer off">○ off</td>' in report.html
    assert "| accuracy\\_floor | **off** |" in report.markdown


def test_the_verdict_comes_first_with_whom_it_is_about(compared):
    evaluation, report = compared
    version = manifest().version
    verdict = judge(evaluation)
    assert not verdict.passed
    assert f"Not promoted: default {version[:12]}</h1>" in report.html
    assert f"# Not promoted: default {version[:12]}\n" in report.markdown
    assert Shown(report.html).text.index(verdict.reason) < Shown(report.html).text.index("Gates: all")
    facts = dict(Page(report.html).tables["The challenger"])
    assert facts["version"] == version
    assert facts["made"] == "2026-02-03 04:05 UTC"
    assert facts["compared with"] == "the champion, version dddddddddddd, made 2026-02-03 04:05 UTC"
    assert "absolute gates only" not in report.html


@pytest.mark.usefixtures("undrawn")
def test_a_passed_verdict_says_so(tmp_path):
    evaluation = measured()
    verdict = judge(evaluation).model_copy(update={"passed": True, "reason": "All 16 gates passed."})
    report = reports.write_report(tmp_path, verdict, evaluation, manifest(), training_report())
    assert f'<h1 class="passed">Passed: default {manifest().short}</h1>' in report.html
    assert "**All 16 gates passed.**" in report.markdown


@pytest.mark.usefixtures("undrawn")
def test_without_a_champion_the_teacher_is_what_is_compared_with(tmp_path):
    report = write(tmp_path, measured(champion=False))
    for text in (Shown(report.html).text, as_viewer(report.markdown).text):
        assert "First champion: absolute gates only" in text
        assert "No slices: there is no champion to compare with." in text
        assert "There is no champion to compare with." in text
        assert "Challenger right, teacher wrong" in text
        assert "All of it is new: there is no champion." in text
    page = Page(report.html)
    assert page.tables["Measures of the same frozen pairs"][0] == ["measure", "challenger", "teacher"]
    assert page.tables["One pair a request, tokenising included, with one-sided 95 % ends"][0] == [
        "measure",
        "challenger",
    ]
    assert len(page.pictures) == 4


def test_quality_names_every_measure_and_how_the_two_differ(compared):
    evaluation, report = compared
    table = Page(report.html).tables["Measures of the same frozen pairs"]
    found = evaluation.measurements.accuracy
    assert table[0] == ["measure", "challenger", "champion", "teacher"]
    assert [row[0] for row in table[1:]] == [
        "accuracy",
        "precision",
        "recall",
        "F1",
        "ROC-AUC",
        "average precision",
        "expected calibration error",
        "Spearman's ρ",
        "pairs",
    ]
    assert table[1][1:] == [f"{found[name].accuracy:.3f}" for name in ("challenger", "champion", "teacher")]
    test = evaluation.measurements.mcnemar
    text = " ".join(Shown(report.html).text.split())
    assert f"the challenger has {test.challenger_only} and the champion {test.champion_only}: McNemar's" in text
    assert f"challenger minus champion: {100 * evaluation.measurements.difference.estimate:+.2f} [" in text


def test_slices_that_are_not_judged_say_why(tmp_path):
    place = np.arange(300)
    # A formula to some eyes, and one that cannot be set.
    slices = {"language=en": place < 150, "source=$x_$": place >= 250, "source=none": place < 0}
    evaluation = measured(slices=slices)
    evaluation.rows.unlabelled["source=none"] = 31
    again = evaluate(evaluation.rows, evaluation.predictions)
    odd = SliceComparison(name="old", pairs=9, clusters=9, difference=None, p_value=None)
    again = dataclasses.replace(
        again, measurements=again.measurements.model_copy(update={"slices": (*again.measurements.slices, odd)})
    )
    report = write(tmp_path, again)
    table = {row[0]: row for row in Page(report.html).tables["Accuracy on slices"]}
    assert table["language=en"][1] == "150"
    assert table["language=en"][5].count(",") == 1  # an interval
    assert table["language=en"][6] == "judged"
    assert table["source=$x_$"][5:] == ["–", "fewer than 100 pairs"]
    assert table["source=none"][3:] == ["–", "–", "–", "not measurable: none of its 31 pairs has a label"]
    assert table["old"][6] == "not judged: the reason was not kept"
    assert "fewer than 100 pairs" in as_viewer(report.markdown).cells
    (forest,) = [svg for svg in Page(report.html).svgs() if "language=en" in svg]
    assert "allowed loss: −2 points" in forest
    assert "source=$x_$" in forest
    assert "source=none" not in forest  # there is no difference to draw


@pytest.mark.parametrize("champion", [True, False])
def test_text_from_outside_stays_text(tmp_path, champion):
    """Sentences, slices, golden pairs, machine and lineage, all hostile, in both forms."""
    evaluation = measured(
        champion=champion,
        texts=[HOSTILE] * 300,
        slices={HOSTILE: np.arange(300) < 150},
        golden_failures=(HOSTILE,),
    )
    found = evaluation.measurements
    latency = found.latency.model_copy(update={"hardware": HOSTILE, "disturbed_by": HOSTILE})
    evaluation = dataclasses.replace(evaluation, measurements=found.model_copy(update={"latency": latency}))
    report = write(tmp_path, evaluation, hardware=HOSTILE, batches=(HOSTILE,), git_commit=HOSTILE)
    for shown in (Shown(report.html), as_viewer(report.markdown)):
        assert shown.cells.count(HARMLESS) >= 4  # two texts in two tables at least
        assert shown.text.count(HARMLESS) >= 8
        assert not {"script", "blockquote", "ol", "em", "h3"} & {*shown.tags}
        assert all(address.startswith(("#", "data:")) for address in shown.addresses)
    assert not {*"\x00\u202e"} & {*report.html, *report.markdown}
    assert "<script" not in "".join(Page(report.html).svgs())
    if champion:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in "".join(Page(report.html).svgs())
    # Viewers that make links of bare addresses look for them in the source.
    assert "://" not in report.markdown


@pytest.mark.usefixtures("undrawn")
def test_long_texts_are_cut(tmp_path):
    report = write(tmp_path, measured(texts=["x" * 5000] * 300))
    for text in (report.html, report.markdown):
        assert "x" * 299 + "…" in text
        assert "x" * 300 not in text


def test_disagreements_are_worked_by_hand():
    """Labels same, different, same, different, same; thresholds 0.5 and 0.4.

    The challenger alone is right on 0 (0.9 against 0.3), 3 (0.1 against 0.8) and 4 (0.6 against 0.39): differences 0.6,
    0.7, 0.21. The champion alone is right on 1 (0.7 against 0.2) and 2 (0.45 against 0.4).
    """
    five = rows("abcde", "vwxyz", [1, 0, 1, 0, 1])
    challenger = predictions([0.9, 0.7, 0.45, 0.1, 0.6])
    champion = predictions([0.3, 0.2, 0.4, 0.8, 0.39], threshold=0.4)
    assert most_disagreed(five, challenger, champion) == ([3, 0, 4], [1, 2])
    assert most_disagreed(five, challenger, champion, most=1) == ([3], [1])
    assert most_disagreed(five, challenger, challenger) == ([], [])


def test_equal_disagreements_keep_the_order_of_the_rows():
    alike = rows("abc", "abc", [1, 1, 1])
    assert most_disagreed(alike, predictions([0.9] * 3), predictions([0.1] * 3)) == ([0, 1, 2], [])


@pytest.mark.usefixtures("undrawn")
def test_disagreements_are_listed_with_texts_label_and_probabilities(tmp_path):
    """Twelve pairs that the challenger alone gets right, more and more clearly: ten are shown, the last first."""
    grades = [0.75, 0.0] * 6
    stated = np.linspace(0.5, 0.94, 12)
    challenger = np.where(np.array(grades) >= 0.5, stated, 1 - stated - 0.001)
    texts = [f"text {place}" for place in range(12)]
    found = rows(texts, [f"{text} b" for text in texts], grades)
    answers = {
        "challenger": predictions(challenger),
        "champion": predictions(1 - challenger),
        "teacher": predictions(challenger),
    }
    report = write(tmp_path, evaluate(found, answers))
    table = Page(report.html).tables["Challenger right, champion wrong: 10 with the largest difference of probability"]
    assert table[0] == ["pair", "text A", "text B", "label", "challenger", "champion"]
    assert [row[1] for row in table[1:]] == [f"text {place}" for place in range(11, 1, -1)]
    assert table[1] == ["1", "text 11", "text 11 b", "different (0)", "0.059", "0.941"]
    assert table[2] == ["2", "text 10", "text 10 b", "same (0.75)", "0.900", "0.100"]
    assert "Champion right, challenger wrong: no pair." in Shown(report.html).text


@pytest.mark.usefixtures("undrawn")
def test_replayed_rows_have_no_sentences_to_show(tmp_path):
    report = write(tmp_path, measured(texts=[""] * 300))
    assert "disagree" not in report.html
    assert "disagree" not in report.markdown
    assert re.findall(r"<h2>(.*?)</h2>", report.html) == [title for title in SECTIONS if "disagree" not in title]


@pytest.mark.parametrize(("positive", "absent"), [(0.0, "a pair with label 1"), (1.0, "a pair with label 0")])
def test_one_label_only_is_said_not_drawn(tmp_path, positive, absent):
    report = write(tmp_path, measured(positive=positive))
    table = {row[0]: row[1:] for row in Page(report.html).tables["Measures of the same frozen pairs"]}
    assert table["ROC-AUC"] == [f"not measurable: there is not {absent}"] * 3
    assert "No ROC curves: all test pairs have one label." in Shown(report.html).text
    assert "false positive rate" not in "".join(Page(report.html).svgs())
    assert "stated probability" in "".join(Page(report.html).svgs())


def test_one_answer_to_everything_can_be_drawn(tmp_path):
    found = rows(["a"] * 30, ["b"] * 30, [1] * 30)
    report = write(tmp_path, evaluate(found, {name: predictions([0.3] * 30) for name in ("challenger", "teacher")}))
    assert "not measurable: all values are the same" in Shown(report.html).cells


@pytest.mark.usefixtures("undrawn")
def test_reliability_is_worked_by_hand(tmp_path):
    """Two pairs stated at 0.14 and 0.16, one of them the same; one at 1.0, which belongs to the last bin."""
    found = rows("abc", "abc", [1, 0, 1])
    answers = {name: predictions([0.14, 0.16, 1.0]) for name in ("challenger", "teacher")}
    report = write(tmp_path, evaluate(found, answers))
    table = Page(report.html).tables["Reliability: what was stated and what was observed"]
    assert table[2] == ["from 0.1 to 0.2", *["2", "0.150", "0.500"] * 2]
    assert table[3] == ["from 0.2 to 0.3", *["–"] * 6]
    assert table[10] == ["from 0.9 to 1.0", *["1", "1.000", "1.000"] * 2]


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (None, "Which calibration was chosen is not in the training report."),
        ({"other": {"method": "platt"}}, "Which calibration was chosen is not in the training report."),
        ({"litert": {"method": "platt"}}, "platt, chosen on validation. The two methods were not compared"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_calibration_is_said_or_said_to_be_missing(tmp_path, calibration, said):
    training = training_report()
    training.pop("calibration")
    if calibration is not None:
        training["calibration"] = calibration
    report = write(tmp_path, measured(), training)
    assert said in Shown(report.html).text
    assert said in as_viewer(report.markdown).text


def test_the_chosen_calibration_is_marked(compared):
    _, report = compared
    table = Page(report.html).tables["Calibration methods, cross-validated on validation pairs"]
    assert table[1:] == [["platt", "0.3100", "0.0400", ""], ["isotonic", "0.2900", "0.0200", "yes"]]


def test_latency_says_what_was_measured_and_what_disturbed_it(compared):
    evaluation, report = compared
    arm = evaluation.measurements.latency.champion
    page = Page(report.html)
    table = {
        row[0]: row[1:] for row in page.tables["One pair a request, tokenising included, with one-sided 95 % ends"]
    }
    for name, ends in (("p50, ms", arm.p50_ms), ("p90, ms", arm.p90_ms), ("p99, ms", arm.p99_ms)):
        assert table[name][1] == f"{ends.estimate:.3g} [{ends.lower:.3g}, {ends.upper:.3g}]"
    assert table["cold start, ms"] == ["412", "412"]
    assert table["peak memory, MB"] == ["93", "93"]
    assert table["pairs a second, in batches"] == ["8,123", "8,123"]
    ratios = page.tables["Ratios; the control's are 1 but for the machine"]
    assert ratios[1] == ["challenger ÷ champion", "0.9 [0.882, 0.927]", "0.95 [0.931, 0.978]"]
    assert ratios[2][0] == "control: one artifact in two processes"
    text = Shown(report.html).text
    assert "The machine changed by 5.0% during the run, most in: fixed workload; beyond 20% the run" in text
    assert "The served artifact takes 3.2 MB, the champion's 3.2 MB." in text


def test_the_control_arm_is_drawn_too(tmp_path):
    assert "latency of challenger, champion, control, and" in write(tmp_path, measured()).html


@pytest.mark.usefixtures("undrawn")
def test_a_latency_that_was_not_measured_is_said_so(tmp_path):
    text = Shown(write(tmp_path, measured(latency=None)).html).text
    assert "Latency was not measured." in text
    assert "The served artifact takes 3.2 MB" in text


@pytest.mark.usefixtures("undrawn")
def test_behaviour_shows_what_went_wrong(tmp_path):
    broken = write(tmp_path / "broken", measured(swap_difference=0.25, golden_failures=("“on” / “off”",)))
    assert "changes its similarity by up to 2.5e-01" in Shown(broken.html).text
    page = Page(broken.html)
    assert page.tables["Golden pairs that are answered wrongly: 1"][1] == ["1", "“on” / “off”"]
    assert page.tables["Changes of the first sentence that keep its meaning"][1] == ["casing", "900", "1.0%", "0.100"]
    whole = Shown(write(tmp_path / "whole", measured(golden_failures=(), invariances=(), swap_difference=None)).html)
    assert "Every golden pair is right." in whole.text
    assert "Changes that keep the meaning were not tried." in whole.text
    assert "Swapped pairs were not scored." in whole.text


@pytest.mark.parametrize("epochs", [1, 3])
def test_few_epochs_are_drawn(tmp_path, epochs):
    page = Page(write(tmp_path, measured(), training_report(epochs)).html)
    assert len(page.tables["Epochs"]) == 1 + epochs
    chosen = max(epochs - 1, 1)
    assert page.tables["Epochs"][chosen][0] == f"{chosen} (chosen)"
    assert f"chosen: {chosen}" in page.svgs()[-1]


@pytest.mark.usefixtures("undrawn")
def test_a_training_report_may_be_empty(tmp_path):
    text = Shown(write(tmp_path, measured(), {}).html).text
    assert "The training report holds no epochs." in text
    assert f"Data version {'2' * 32}: 2 batches." in text


@pytest.mark.usefixtures("undrawn")
def test_data_names_what_is_new_since_the_champion(compared, tmp_path):
    _, report = compared
    text = Shown(report.html).text
    assert f"Data version {'2' * 32}: 2 batches, 12,345 training pairs, 2,000 validation pairs." in text
    assert f"New since the champion ({'0' * 32}): 1 batch: second." in text
    assert "In the champion's data and no longer in this: 1 batch: gone." in text
    assert "Test split ffffffffffff had decided on 3 other challengers before this one" in text

    same = Shown(write(tmp_path / "same", measured(), champion=manifest()).html).text
    assert f"New since the champion ({'2' * 32}): no batches." in same
    assert "no longer in this" not in same
    assert "The champion's batches are not at hand." in Shown(write(tmp_path / "without", measured()).html).text
    many = write(tmp_path / "many", measured(), champion=manifest(()), batches=tuple(map(str, range(60))))
    assert "60 batches: 0, 1, 2" in many.html
    assert ", 49 and 10 more." in many.html


def test_lineage_has_every_field_and_every_file(compared):
    evaluation, report = compared
    page = Page(report.html)
    facts = dict(page.tables["Lineage"][1:])
    version = manifest()
    assert {*version.lineage.model_dump()} <= {*facts}
    assert facts["git_commit"] == "1" * 40
    assert facts["teacher_fingerprint"] == "3" * 64
    assert facts["flow_run_id"] == "not known"
    assert facts["git_dirty"] == "False"
    assert facts["batches"] == "2 batches: first, second"
    assert facts["verdict_sha256"] == judge(evaluation).sha256
    assert page.tables["Files"][1:] == [
        ["student.tflite", "litert", "3,000,000", "8" * 64],
        ["tokenizer.json", "tokenizer", "200,000", "9" * 64],
    ]
    cells = as_viewer(report.markdown).cells
    assert cells[cells.index("student.tflite") + 3] == "8" * 64


def test_the_card_says_what_the_page_says(compared):
    """But for the pictures: Markdown has the smaller ones as PNG, and the curves only as numbers."""
    _, report = compared
    page, card = Page(report.html), as_viewer(report.markdown)
    cells = [cell for table in page.tables.values() for row in table for cell in row]
    signs = str.maketrans("", "", "✔✘▲○")
    bodies = {cell.translate(signs).strip().removeprefix("– ") for cell in cells}
    heads = {cell for table in page.tables.values() for cell in table[0]}
    assert bodies - heads <= {*card.cells}
    assert report.markdown.count("](data:image/png;base64,") == 4
    assert len(report.markdown) < 400_000


@pytest.mark.usefixtures("undrawn")
def test_a_difference_without_an_interval_is_said_to_be_missing(tmp_path):
    text = Shown(write(tmp_path, measured(difference=None, mcnemar=None)).html).text
    assert "challenger minus champion: not measured: the test split has too few groups" in text
    assert "McNemar" not in text


@pytest.mark.usefixtures("undrawn")
def test_an_interval_is_shown_with_its_ends(tmp_path):
    difference = Interval(estimate=0.0123, lower=-0.004, upper=0.03)
    text = Shown(write(tmp_path, measured(difference=difference, difference_error=0.006)).html).text
    assert "+1.23 [-0.40, +3.00] points (one-sided 95 % ends), standard error 0.60 points." in text


class Bucket:
    """An object store that only signs."""

    def uri(self, key=""):
        return f"s3://bucket/{key}"

    def presign(self, key, *, seconds):
        return f"https://bucket.example/{key}?for={seconds}"


def test_the_first_line_of_a_card_leads_to_the_page():
    card = reports.with_link("# Passed\n", "s3://bucket/reports/0.html", Bucket(), seconds=7 * 86_400)
    shown = as_viewer(card.splitlines()[0])
    assert shown.text.strip() == "The whole report (this link holds for 7 days)"
    assert shown.addresses == ["https://bucket.example/reports/0.html?for=604800"]
    assert card.endswith("\n\n# Passed\n")
