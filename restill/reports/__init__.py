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
from restill.manifests import Manifest
from restill.reports.card import card, with_link
from restill.reports.content import document
from restill.reports.judged import Judged
from restill.reports.page import page

PAGE = "report.html"
CARD = "model_card.md"

__all__ = ["Report", "with_link", "write_report"]


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
    written = document(Judged(verdict, evaluation, manifest, training, champion, datetime.now(UTC)))
    report = Report(folder / PAGE, page(written), card(written))
    write_whole(folder / CARD, report.markdown.encode())
    write_whole(report.path, report.html.encode())
    return report
