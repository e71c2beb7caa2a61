"""What a report says, in the order in which a reader decides: the verdict first, where everything came from last."""

from collections.abc import Callable

from restill.manifests import SHORT
from restill.reports import behaviour, origin, quality, speed
from restill.reports.blocks import Block, Document, Section, Table, Words
from restill.reports.judged import Judged


def document(judged: Judged) -> Document:
    """Return the report of one decision; a section that has nothing to say is left out."""
    manifest = judged.manifest
    found = [Section(name, title, blocks(judged)) for name, title, blocks in _SECTIONS]
    return Document(
        title=f"{'Passed' if judged.verdict.passed else 'Not promoted'}: {manifest.model} {manifest.short}",
        passed=judged.verdict.passed,
        sections=[section for section in found if section.blocks],
    )


def _verdict(judged: Judged) -> list[Block]:
    verdict, manifest = judged.verdict, judged.manifest
    blocks: list[Block] = [Words(verdict.reason, lead=True)]
    if verdict.bootstrap:
        blocks.append(Words("First champion: absolute gates only, since there is nothing to compare with."))
    facts = [
        ("model", manifest.model),
        ("version", manifest.version),
        ("made", f"{manifest.created_at:%Y-%m-%d %H:%M %Z}"),
        ("judged", f"{judged.at:%Y-%m-%d %H:%M %Z}"),
        ("compared with", _compared(judged)),
        *origin.model(manifest, judged.training),
    ]
    return [*blocks, Table("The challenger", ("fact", "value"), facts)]


def _compared(judged: Judged) -> str:
    champion = judged.measurements.champion
    if champion is None:
        return "nothing: there is no champion yet"
    made = f", made {judged.champion.created_at:%Y-%m-%d %H:%M %Z}" if judged.champion is not None else ""
    return f"the champion, version {champion[:SHORT]}{made}"


def _gates(judged: Judged) -> list[Block]:
    rows = [(row.gate, row.answer, row.observed, row.limit, row.sentence) for row in judged.verdict.rows]
    return [Table("Gates: all that apply must pass", ("gate", "answer", "observed", "limit", "in words"), rows)]


_SECTIONS: tuple[tuple[str, str, Callable[[Judged], list[Block]]], ...] = (
    ("verdict", "Verdict", _verdict),
    ("gates", "Gates", _gates),
    ("quality", "Quality on the test split", quality.measures),
    ("slices", "Slices", quality.slices),
    ("scores", "Scores and calibration", quality.scores),
    ("latency", "Latency and size", speed.latency),
    ("behaviour", "Behaviour", behaviour.behaviour),
    ("disagreements", "Where the models disagree most", quality.disagreements),
    ("training", "Training", origin.training),
    ("data", "Data", origin.data),
    ("lineage", "Lineage and files", origin.lineage),
)
