"""Batch rules held to their limits, and the report of it; the only caller of Great Expectations.

One suite, written down in code: one expectation per rule, its limits are parameters of the run. It checks a table of
one row, whose columns are the measures: Great Expectations is slow on many rows and keeps its context in memory, and
what it would count there has been counted already. A maximum over one row is the measure itself.
"""

import html
import importlib
import logging
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

from restill.batch_rules import KINDS, Rule
from restill.settings import Severity

SUITE_VERSION = 2  # raise it when a rule is added or changed
SUITE = f"batch-rules-v{SUITE_VERSION}"

Answer = Literal["pass", "fail", "warn", "not applicable", "off"]

# A page that is opened over a presigned link stands alone: whatever it would load is forbidden to it.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; } h5, h6 { font-size: 1em; margin: 1.2em 0 0.3em; }
table { border-collapse: collapse; margin: 0.5em 0; }
th, td { border-bottom: 1px solid #8886; padding: 0.3em 0.9em 0.3em 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 4em; unicode-bidi: isolate; }
thead[hidden] { display: none; }
td.rule, td.number { white-space: nowrap; overflow-wrap: normal; }
.pass { color: #1a7f37; } .fail, .text-danger { color: #cf222e; } .warn { color: #9a6700; }
.off, .not-applicable { color: #777; } td.pass, td.fail, td.warn, td.off, td.not-applicable { white-space: nowrap; }
td.fail, td.warn { font-weight: bold; }
.ge-section ul { list-style: none; padding: 0; }
td small { color: #777; display: block; }
i.fa-check-circle::before { content: "✔"; color: #1a7f37; font-style: normal; }
i.fa-times::before { content: "✘"; color: #cf222e; font-style: normal; }
i.fa-exclamation-triangle::before { content: "▲"; color: #9a6700; font-style: normal; }
"""
_MARKS: dict[Answer, str] = {"pass": "✔ pass", "fail": "✘ fail", "warn": "▲ warn"}
_CRITICALITY = {"refuse": "critical", "warn": "warning"}  # in Great Expectations' words
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols that show nothing

# Great Expectations keeps its context in global state and is not made for threads.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class RuleResult:
    """What one batch rule found."""

    rule: str
    severity: Severity
    answer: Answer
    observed: str
    allowed: str
    sentence: str  # without the full stop
    setting: str = ""  # where the limit is set

    @property
    def reason(self) -> str:
        """Return the sentence as one, with the setting that holds its limit."""
        where = f" ({self.setting})" if self.setting else ""
        return f"{self.sentence[0].upper()}{self.sentence[1:]}{where}."


@dataclass(frozen=True)
class BatchValidation:
    """What all batch rules found."""

    results: tuple[RuleResult, ...]
    docs_index: Path  # first page of the Data Docs
    docs_page: Path  # the page of this run, which needs no other

    @property
    def passed(self) -> bool:
        """Return whether no rule that refuses a batch failed."""
        return all(result.answer != "fail" for result in self.results)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return a sentence for each rule that refuses the batch."""
        return tuple(result.reason for result in self.results if result.answer == "fail")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each rule that warns."""
        return tuple(result.reason for result in self.results if result.answer == "warn")


def load_in_background() -> None:
    """Begin to import Great Expectations, which takes seconds, beside work that leaves Python's lock alone.

    Nothing depends on it: `validate` imports it again, and waits for it or starts anew if this failed.
    """
    importlib.import_module("pandas")  # here, so that no two threads import it at once: others need it too
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the package is imported
    threading.Thread(target=importlib.import_module, args=["great_expectations"], daemon=True).start()


def validate(rules: Sequence[Rule], *, docs_dir: Path, batch_name: str) -> BatchValidation:
    """Hold the measures of a batch to their limits, and build its Data Docs.

    A rule that is off, or that does not apply, is reported and not put to Great Expectations: an absent value would
    pass any range there.

    Args:
        rules: what `batch_rules.rules` returned: every rule once.
        docs_dir: folder for the Data Docs, a static site; what was in it goes.
        batch_name: shown as the title of the pages; any text.
    Raises: ValueError if a rule is missing or there twice.
    """
    if [rule.name for rule in rules] != [kind.name for kind in KINDS]:
        raise ValueError(
            f"The batch rules must be {', '.join(kind.name for kind in KINDS)}. "
            f"Received: {', '.join(rule.name for rule in rules) or 'none'}. Take what batch_rules.rules returns."
        )
    at = datetime.now(UTC)
    judged = [rule for rule in rules if rule.severity != "off" and rule.value is not None]
    with _one_at_a_time:
        passed = _run_suite(judged, docs_dir, at)
    results = tuple(_result(rule, passed.get(rule.name)) for rule in rules)
    page = next(docs_dir.glob(f"validations/{SUITE}/*/{at:%Y%m%dT%H%M%S.%fZ}/*.html"))
    validation = BatchValidation(results, docs_dir / "index.html", page)
    _make_self_contained(validation, docs_dir, f"Batch rules: {as_line(batch_name)}", at)
    return validation


def as_line(value: str) -> str:
    """Return any text as one line that shows what is in it, for a page: what has no shape appears as its code point.

    Direction marks would reorder what stands beside them, and zero-width characters would hide a difference.
    """

    def visible(found: re.Match[str]) -> str:
        character = found[0]
        category = unicodedata.category(character)
        if category == "Cc":
            return " "
        hidden = category in ("Cf", "Cs", "Co", "Cn", "Zl", "Zp") or character in _BLANK
        return f"⟨U+{ord(character):04X}⟩" if hidden else character

    return " ".join(re.sub(r"[^\x20-\x7e]", visible, value).split())


def html_page(title: str, body: str, *, style: str = STYLE) -> str:
    """Return a whole page that loads nothing and runs nothing.

    Args:
        title: text.
        body: HTML, with everything from elsewhere escaped.
        style: CSS.
    """
    return PAGE.format(title=html.escape(title), style=style, body=body)


def _result(rule: Rule, passed: bool | None) -> RuleResult:
    answer: Answer
    if rule.severity == "off":
        answer = "off"
    elif passed is None:
        answer = "not applicable"
    elif passed:
        answer = "pass"
    else:
        answer = "fail" if rule.severity == "refuse" else "warn"
    allowed = "–" if rule.value is None else rule.allowed
    return RuleResult(rule.name, rule.severity, answer, rule.observed, allowed, rule.sentence, rule.setting)


def _run_suite(judged: Sequence[Rule], docs_dir: Path, at: datetime) -> dict[str, bool]:
    """Return for each rule whether its measure keeps its limits; a measure that is no number does not."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the package is imported
    import great_expectations as gx
    import pandas as pd
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
    severities = {rule.name: _CRITICALITY[rule.severity] for rule in judged}
    # No description: Great Expectations would show it instead of the limits.
    checks: list[Any] = [
        gxe.ExpectColumnMaxToBeBetween(
            column=kind.name,
            max_value={"$PARAMETER": _parameter(kind.name, "most")},
            **({"min_value": {"$PARAMETER": _parameter(kind.name, "least")}} if kind.bounded_below else {}),
            severity=severities[kind.name],
            notes=kind.note,
        )
        for kind in KINDS
        if kind.name in severities
    ]
    suite = context.suites.add(gx.ExpectationSuite(SUITE, expectations=checks))
    measures = context.data_sources.add_pandas("measures").add_dataframe_asset("batch")
    batch = measures.add_batch_definition_whole_dataframe("whole")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=SUITE, data=batch, suite=suite))
    limits = {_parameter(rule.name, "most"): rule.most for rule in judged}
    limits |= {_parameter(rule.name, "least"): rule.least for rule in judged}
    found = definition.run(
        batch_parameters={"dataframe": pd.DataFrame({rule.name: [rule.value] for rule in judged}, dtype="float64")},
        expectation_parameters=limits,
        result_format="SUMMARY",
        run_id=RunIdentifier(run_name="ingest", run_time=at),
    )
    context.build_data_docs(site_names=["restill"])
    return {result.expectation_config.kwargs["column"]: bool(result.success) for result in found.results}


def _parameter(rule: str, limit: Literal["least", "most"]) -> str:
    # Parameters are parsed as arithmetic, so a dash would subtract.
    return f"{rule.replace('-', '_')}_{limit}"


def _make_self_contained(validation: BatchValidation, docs_dir: Path, title: str, at: datetime) -> None:
    """Write the site's pages anew: our table first, below it what Great Expectations says, nothing from elsewhere.

    Its own pages load styles and scripts from public servers, and show next to nothing without them.
    """
    shown = html.escape(title)
    when = f"<p>Suite {SUITE}, {at:%Y-%m-%d %H:%M:%S} UTC. {html.escape(_headline(validation))}</p>"
    body = [
        f"<h1>{shown}</h1>{when}",
        _table(validation.results),
        "<h2>The same in Great Expectations</h2>",
        "<p>Each measure is a column of a table with one row, so the maximum is the measure. Shares are in [0, 1]. "
        "Rules that are off or not applicable are not put to it, and it counts a warning as unsuccessful.</p>",
        _sections(validation.docs_page, unfold=False),
    ]
    validation.docs_page.write_text(html_page(title, "\n".join(body)), "utf-8")
    suite = docs_dir / "expectations" / f"{SUITE}.html"
    parameters = r"\{(?:'|&#39;)\$PARAMETER(?:'|&#39;): (?:'|&#39;)(\w+)(?:'|&#39;)\}"
    checks = re.sub(parameters, r"\1", _sections(suite, unfold=True))
    left_out = "<p>Rules that are off or not applicable to this batch are left out.</p>"
    suite.write_text(html_page(SUITE, f"<h1>Suite {SUITE}</h1>{left_out}\n{checks}"), "utf-8")
    links = "".join(
        f'<li><a href="{page.relative_to(docs_dir).as_posix()}">{text}</a></li>'
        for page, text in ((validation.docs_page, "What this batch was held to, and what was found"), (suite, "Suite"))
    )
    index = html_page(title, f"<h1>{shown}</h1>{when}<ul>{links}</ul>")
    validation.docs_index.write_text(index, "utf-8")
    shutil.rmtree(docs_dir / "static", ignore_errors=True)  # fonts, and pictures of a guided tour


def _headline(validation: BatchValidation) -> str:
    refusing, warning = len(validation.reasons), len(validation.warnings)
    warnings = f" {warning} warning{'s' if warning != 1 else ''}." if warning else ""
    if refusing:
        return f"Refused: {refusing} rule{'s' if refusing != 1 else ''} failed.{warnings}"
    return f"Passed: no rule refuses this batch.{warnings}"


def _table(results: Sequence[RuleResult]) -> str:
    rows = "".join(
        f'<tr><td class="rule">{html.escape(result.rule)}</td>'
        f'<td class="{result.answer.replace(" ", "-")}">{_MARKS.get(result.answer, result.answer)}</td>'
        f'<td class="number">{html.escape(result.observed)}</td><td class="number">{html.escape(result.allowed)}</td>'
        f"<td>{result.severity}</td>"
        f"<td>{html.escape(result.sentence)}<small>{html.escape(result.setting)}</small></td></tr>"
        for result in results
    )
    heads = ("rule", "answer", "observed", "allowed", "on failure", "in words and where the limit is set")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<table id="rules"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _sections(page: Path, *, unfold: bool) -> str:
    """Return what a page of Data Docs says, without the frame around it.

    Args:
        page: as Great Expectations wrote it.
        unfold: show what a click would unfold: of a suite what a rule is for, of a run only versions and time stamps.
    """
    reader = _Sections(unfold=unfold)
    reader.feed(page.read_text("utf-8"))
    reader.close()
    return "".join(reader.kept)


class _Sections(HTMLParser):
    """Keeps elements of class ge-section, without scripts, pictures, links and whatever needs a script to work."""

    KEPT_ATTRIBUTES = ("id", "class", "hidden", "colspan", "rowspan")
    VOID = ("br", "hr", "img", "input", "link", "meta", "wbr")
    DROPPED = ("script", "style", "button", "nav", "footer", "iframe", "object", "svg")

    def __init__(self, *, unfold: bool) -> None:
        super().__init__(convert_charrefs=False)
        self._unfold = unfold
        self.kept: list[str] = []
        self._inside = 0  # open elements, counted from the section's own
        self._dropping = 0  # open elements, counted from the dropped one

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        folded = dict(attrs).get("data-toggle") == "collapse" or ("collapse" in classes and not self._unfold)
        if tag in self.VOID:
            if self._inside and not self._dropping and tag == "br":
                self.kept.append(f"<{tag}>")
            return
        if self._dropping or tag in self.DROPPED or folded:
            self._dropping += 1
            return
        if self._inside or "ge-section" in classes:
            self._inside += 1
            written = (
                f" {name}" if value is None else f' {name}="{html.escape(value)}"'
                for name, value in attrs
                if name in self.KEPT_ATTRIBUTES
            )
            self.kept.append(f"<{_renamed(tag)}{''.join(written)}>")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if self._dropping:
            self._dropping -= 1
        elif self._inside:
            self._inside -= 1
            self.kept.append(f"</{_renamed(tag)}>")

    def handle_data(self, data: str) -> None:
        self._keep(html.escape(data, quote=False))

    def handle_entityref(self, name: str) -> None:
        self._keep(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._keep(f"&#{name};")

    def _keep(self, text: str) -> None:
        if self._inside and not self._dropping:
            self.kept.append(text)


def _renamed(tag: str) -> str:
    return "span" if tag == "a" else tag  # a presigned object has no neighbours to link to
