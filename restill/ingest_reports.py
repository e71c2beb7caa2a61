"""What a person reads about one incoming file: a page of text, the rows that were kept out, and the Data Docs."""

import html
import mimetypes
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from restill.expectations import BatchValidation
from restill.files import write_whole
from restill.pairs import REASONS
from restill.storage.objects import ObjectStore

SUMMARY = "summary.md"
QUARANTINE = "quarantine.parquet"
DATA_DOCS = "data-docs"
EXAMPLES = 10
CELL_CHARACTERS = 60
UPLOADS_AT_ONCE = 8

CONTENT_TYPES = {
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".otf": "font/otf",
}
_ANSWERS = {True: "pass", False: "**fail**", None: "not applicable"}


def write_summary(
    folder: Path,
    headline: str,
    *,
    validation: BatchValidation,
    splits: Mapping[str, int],
    quarantined: pl.DataFrame,
    leaked_sentences: int,
) -> None:
    """Write `summary.md`, and `quarantine.parquet` with the rows as they came, their row number and reason."""
    accepted = sum(splits.values())
    reasons = dict(quarantined["reason"].value_counts(sort=True).iter_rows())
    lines = [
        f"# {as_text(headline)}",
        "",
        f"{accepted + quarantined.height:,} rows in = {accepted:,} accepted + {quarantined.height:,} quarantined. "
        f"Sentences in more than one split: {leaked_sentences}.",
        "",
        "| split | pairs |",
        "|---|---:|",
        *(f"| {split} | {count:,} |" for split, count in splits.items()),
        "",
        "## Batch rules",
        "",
        "| rule | answer | observed | allowed | in words |",
        "|---|---|---|---|---|",
        *(
            f"| {result.rule} | {_ANSWERS[result.passed]} | {result.observed} | {result.allowed} "
            f"| {as_text(result.sentence)} |"
            for result in validation.results
        ),
        "",
        f"The same as web pages: [{DATA_DOCS}/index.html]({DATA_DOCS}/index.html)",
    ]
    if not validation.passed:
        lines += [
            "",
            "## What to do",
            "",
            "Correct the file and ingest it again. If the change is meant, widen the limit in restill.toml "
            "(`restill config show` lists all of them) and ingest the same file again.",
        ]
    if reasons:
        lines += [
            "",
            "## Quarantine",
            "",
            f"All of these rows, as they came: [{QUARANTINE}]({QUARANTINE}). Row 1 is the first after the header.",
            "",
            "| reason | rows | that is |",
            "|---|---:|---|",
            *(f"| {reason} | {count:,} | {REASONS[reason]} |" for reason, count in reasons.items()),
            "",
            "| row | reason | text_a | text_b | label |",
            "|---:|---|---|---|---|",
            *(
                f"| {row:,} | {reason} | " + " | ".join(_cell(value) for value in values) + " |"
                for row, reason, *values in quarantined.head(EXAMPLES)
                .select("row", "reason", "text_a", "text_b", "label")
                .iter_rows()
            ),
        ]
    write_whole(folder / SUMMARY, ("\n".join(lines) + "\n").encode())
    quarantined.write_parquet(folder / QUARANTINE)


def write_refusal(folder: Path, headline: str, reasons: tuple[str, ...]) -> None:
    """Write `summary.md` for a file that could not be read."""
    lines = [f"# {as_text(headline)}", "", *(f"* {as_text(reason)}" for reason in reasons)]
    write_whole(folder / SUMMARY, ("\n".join(lines) + "\n").encode())


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

    A presigned link opens one object, so each page of the Data Docs that shows results gets its own.

    Args:
        report: the address that `upload` returned.
        store: where it is.
        seconds: how long the links hold; S3 allows 7 days.
    Raises: ObjectNotFound if the report is gone.
    """
    key = report.removeprefix(store.uri()).lstrip("/")
    folder = key.removesuffix(SUMMARY)
    lines = [
        f"* [{found.key.removeprefix(folder)}]({store.presign(found.key, seconds=seconds)})"
        for found in store.list(folder)
        if found.key == f"{folder}{QUARANTINE}" or "/validations/" in found.key
    ]
    kept = [f"Kept at {as_text(report)}; these links hold for {seconds // 86_400} days:", "", *lines]
    summary = re.sub(r"\[([^]]+)\]\((?:data-docs|quarantine)[^)]*\)", r"\1", store.get(key).decode("utf-8"))
    return summary + "\n" + "\n".join(kept) + "\n"


def as_text(value: str) -> str:
    """Return text that Markdown and HTML show as it is, on one line."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", value).split())
    return re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", html.escape(line, quote=False))


def _cell(value: str | None) -> str:
    if value is None:
        return ""
    return as_text(value if len(value) <= CELL_CHARACTERS else value[: CELL_CHARACTERS - 1] + "…")
