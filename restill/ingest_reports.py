"""What a person reads about one incoming file: a page of text, the same for a browser, and the Data Docs."""

import html
import mimetypes
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
from markdown_it import MarkdownIt

from restill.expectations import BatchValidation, RuleResult, as_line, html_page
from restill.files import write_whole
from restill.pairs import REASONS
from restill.storage.objects import ObjectStore

SUMMARY = "summary.md"
PAGE = "summary.html"  # the same: a browser shows a presigned .md as plain text
QUARANTINE = "quarantine.parquet"
DATA_DOCS = "data-docs"
EXAMPLES = 10
CELL_CHARACTERS = 60
UPLOADS_AT_ONCE = 8
SECONDS_A_DAY = 86_400

CONTENT_TYPES = {
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}
_LINK = r"(?<!\\)\[([^]]+)\]\((?:data-docs|quarantine)[^)]*\)"  # as_text puts a backslash before any other bracket
_EMPHASISED = ("fail", "warn", "off")


def write_summary(
    folder: Path,
    headline: str,
    *,
    validation: BatchValidation,
    detected: Sequence[str],
    splits: Mapping[str, int],
    rows_in: int,
    accepted: int,
    reasons: Mapping[str, int],
    quarantine_examples: pl.DataFrame,
    examples: Callable[[str], pl.DataFrame | None],
    leaked_sentences: int,
    notes: Sequence[str],
    report_id: str = "REPORT",
) -> None:
    """Write `summary.md` and `summary.html`. The quarantined rows and the Data Docs beside them are the caller's.

    Args:
        folder: made if it is missing.
        headline: what became of the file.
        validation: what the batch rules found.
        detected: sentences on how the file was read.
        splits: accepted pairs by split.
        rows_in: rows of the file.
        accepted: rows that passed.
        reasons: quarantined rows by reason.
        quarantine_examples: `row`, `reason`, `text_a`, `text_b`, `label`; the first ten are shown.
        examples: rows that show why a rule failed or warned, by its name: `row`, `text_a`, `text_b`, `label` and
            optionally `note`, of which the first ten are shown; None where no single row is to blame.
        leaked_sentences: sentences in more than one split.
        notes: further sentences.
        report_id: what `restill quarantine` calls this report.
    Raises: ValueError if rows are missing from the sum.
    """
    quarantined = sum(reasons.values())
    if rows_in != accepted + quarantined:
        raise ValueError(
            f"Every row must be accepted or quarantined. Received: {rows_in:,} rows in, {accepted:,} accepted, "
            f"{quarantined:,} quarantined."
        )
    found = [result for result in validation.results if result.answer in ("fail", "warn")]
    lines = [
        f"# {as_text(headline)}",
        "",
        f"{rows_in:,} rows in = {accepted:,} accepted + {quarantined:,} quarantined. "
        f"Sentences in more than one split: {leaked_sentences:,}.",
        *_bullets(notes),
        "",
        "| split | pairs |",
        "|---|---:|",
        *(f"| {as_text(split)} | {count:,} |" for split, count in splits.items()),
        "",
        "## Batch rules",
        "",
        "| rule | answer | observed | allowed | on failure | in words |",
        "|---|---|---|---|---|---|",
        *(_rule(result) for result in validation.results),
        "",
        f"The same as web pages: [{DATA_DOCS}/index.html]({DATA_DOCS}/index.html)",
        *_next_steps(found, report_id if quarantined else None),
    ]
    for result in found:
        rows = examples(result.rule)
        if rows is None or rows.is_empty():
            continue
        lines += ["", f"## Rows behind {result.rule}", "", as_text(result.reason), "", *_rows(rows)]
    if reasons:
        lines += [
            "",
            "## Quarantine",
            "",
            f"All of these rows, as they came: [{QUARANTINE}]({QUARANTINE}). Row 1 is the first after the header.",
            "",
            "| reason | rows | that is |",
            "|---|---:|---|",
            *(
                f"| {as_text(reason)} | {count:,} | {as_text(REASONS[reason])} |"
                for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
            ),
        ]
        if not quarantine_examples.is_empty():
            lines += ["", *_rows(quarantine_examples)]
    if detected:
        lines += ["", "## How the file was read", *_bullets(detected)]
    _write(folder, headline, lines)


def write_refusal(folder: Path, headline: str, reasons: tuple[str, ...]) -> None:
    """Write `summary.md` and `summary.html` for a file that could not be read."""
    _write(folder, headline, [f"# {as_text(headline)}", *_bullets(reasons)])


def upload(folder: Path, store: ObjectStore, prefix: str) -> str:
    """Upload a report, the summary last; return the address of the summary.

    Raises: StorageUnreachable.
    """

    def put(path: Path) -> None:
        kind = CONTENT_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        store.create(f"{prefix}/{path.relative_to(folder).as_posix()}", path, content_type=kind)

    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / SUMMARY]
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        list(pool.map(put, paths))
    put(folder / SUMMARY)
    return store.uri(f"{prefix}/{SUMMARY}")


def with_links(report: str, store: ObjectStore, *, seconds: int) -> str:
    """Return an uploaded summary as Markdown whose links a browser can open for `seconds`, without keys of its own.

    A presigned link opens one object, so each page that stands alone gets its own.

    Args:
        report: the address that `upload` returned.
        store: where it is.
        seconds: how long the links hold; S3 allows 7 days.
    Raises: ObjectNotFound if the report is gone.
    """
    key = report.removeprefix(store.uri()).lstrip("/")
    folder = key.removesuffix(SUMMARY)
    named = {PAGE: "this page, to pass on", QUARANTINE: "the rows that were kept out"}
    lines = []
    for found in store.list(folder):
        name = found.key.removeprefix(folder)
        meaning = "batch rules in Data Docs" if name.startswith(f"{DATA_DOCS}/validations/") else named.get(name)
        if meaning is not None:
            lines.append(f"* [{name}]({store.presign(found.key, seconds=seconds)}): {meaning}")
    kept = [f"Kept at {as_text(report)}; these links hold for {seconds / SECONDS_A_DAY:.3g} days:", "", *lines]
    return _without_links(store.get(key).decode("utf-8")) + "\n" + "\n".join(kept) + "\n"


def as_text(value: str) -> str:
    """Return text that Markdown and HTML show as it is, on one line: no markup, no link, no hidden character."""
    line = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", html.escape(as_line(value), quote=False))
    # Some viewers make a link of whatever looks like an address. Prefect's first page shows these references as they
    # stand, and its second makes a link of what has a backslash instead: so they are put where nothing else helps.
    line = re.sub(r"(?i)\b(www)\.", r"\1&#46;", line.replace("@", "&#64;"))
    line = re.sub(r"(?i)(https?|ftp)://", r"\1&#58;//", line)
    # Nor is what starts like an item a list; a backslash is shown by nobody.
    line = re.sub(r"^[-+=]+", lambda found: re.sub(".", r"\\\g<0>", found[0]), line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def _write(folder: Path, headline: str, lines: Iterable[str]) -> None:
    summary = "\n".join(lines) + "\n"
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(_without_links(summary))
    write_whole(folder / PAGE, html_page(as_line(headline), body).encode())
    write_whole(folder / SUMMARY, summary.encode())


def _without_links(summary: str) -> str:
    return re.sub(_LINK, r"\1", summary)


def _bullets(sentences: Sequence[str]) -> list[str]:
    return ["", *(f"* {as_text(sentence)}" for sentence in sentences)] if sentences else []


def _rule(result: RuleResult) -> str:
    answer = f"**{result.answer}**" if result.answer in _EMPHASISED else result.answer
    return (
        f"| {result.rule} | {answer} | {as_text(result.observed)} | {as_text(result.allowed)} | {result.severity} "
        f"| {as_text(result.sentence)} |"
    )


def _next_steps(found: Sequence[RuleResult], report_id: str | None) -> list[str]:
    """Return what to do about rules that failed or warned, and about rows in quarantine (None: there are none)."""
    steps = []
    if report_id is not None:
        steps.append(
            f"See the rows that were kept out: `restill quarantine show {report_id}`. What can be corrected goes back "
            "with `restill quarantine release`."
        )
    if any(result.answer == "fail" for result in found):
        steps.append("Correct the file and run `restill ingest` again: the data set is as before.")
    steps += [
        f"If the change is meant: widen {_code(result.setting)} in `restill.toml`, or set "
        f'`{result.rule} = "{"warn" if result.answer == "fail" else "off"}"` under `[data.batch_rules.severity]`.'
        for result in found
        if result.setting
    ]
    return ["", "## What to do", "", *(f"* {step}" for step in steps)] if steps else []


def _code(setting: str) -> str:
    return " and ".join(f"`{name}`" for name in setting.split(" and "))


def _rows(rows: pl.DataFrame) -> list[str]:
    """Return the first rows as a table with the columns that are known and there."""
    columns = [name for name in ("row", "reason", "text_a", "text_b", "label", "note") if name in rows.columns]
    return [
        f"| {' | '.join(columns)} |",
        f"|{'|'.join('---:' if name == 'row' else '---' for name in columns)}|",
        *(
            f"| {' | '.join(_cell(value) for value in values)} |"
            for values in rows.head(EXAMPLES).select(columns).iter_rows()
        ),
    ]


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
    return as_text(value if len(value) <= CELL_CHARACTERS else value[: CELL_CHARACTERS - 1] + "…")
