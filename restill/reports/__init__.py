"""The report of one decision: an HTML page that says everything anywhere, and a model card in Markdown.

`content` says what is in it, `page` and `card` write it down, `pictures` draws.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restill.evaluation import Evaluation
from restill.files import write_whole
from restill.gates import Verdict
from restill.ingest_reports import SECONDS_A_DAY
from restill.manifests import Manifest
from restill.storage import ObjectStore

PAGE = "report.html"
CARD = "model_card.md"


@dataclass(frozen=True)
class Report:
    """A report on disk and as text."""

    path: Path  # of the page
    html: str
    markdown: str


def write_report(
    folder: Path,
    verdict: Verdict,
    evaluation: Evaluation,
    manifest: Manifest,
    training: dict[str, Any],
    *,
    champion: Manifest | None = None,
) -> Report:
    """Write `report.html` and `model_card.md` into `folder`.

    Args:
        folder: made if it is missing.
        verdict: what was decided.
        evaluation: predictions and timings behind it.
        manifest: the challenger.
        training: the challenger's training report, with its epochs.
        champion: what it was compared with, if that is at hand: says what is new in the data since.
    """
    # Late: what draws takes half a second to import, and most runs draw nothing.
    from restill.reports.card import card
    from restill.reports.content import document
    from restill.reports.judged import Judged
    from restill.reports.page import page

    written = document(Judged(verdict, evaluation, manifest, training, champion, datetime.now(UTC)))
    report = Report(folder / PAGE, page(written), card(written))
    write_whole(folder / CARD, report.markdown.encode())
    write_whole(report.path, report.html.encode())
    return report


def with_link(markdown: str, uri: str, store: ObjectStore, *, seconds: int) -> str:
    """Return a card whose first line leads to the page, without keys of the reader's own.

    Args:
        markdown: the card.
        uri: the s3:// address of the page.
        store: where it is.
        seconds: how long the link holds; S3 allows 7 days.
    """
    link = store.presign(uri.removeprefix(store.uri()).lstrip("/"), seconds=seconds)
    # Not the address as text: Prefect's page breaks no word, and lets it run across the column beside it.
    first = f"[The whole report]({link}) (this link holds for {seconds / SECONDS_A_DAY:.3g} days)"
    return f"{first}\n\n{markdown}"
