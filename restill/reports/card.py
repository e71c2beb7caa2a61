"""A report as a model card in Markdown: what the page says, in words and tables, with the smaller pictures."""

from restill.gates import Answer
from restill.ingest_reports import as_text
from restill.reports.blocks import Block, Document, Picture, Table, Words, cut
from restill.reports.pictures import png_uri

_CELL_CHARACTERS = 2000  # of our own sentences: they may name many slices
_PICTURE_CHARACTERS = 100_000  # a larger one is left to the page
_EMPHASISED = (Answer.FAIL, Answer.INCONCLUSIVE, Answer.OFF)


def card(document: Document) -> str:
    """Return a report as Markdown."""
    lines = [f"# {_text(document.title)}"]
    for section in document.sections:
        lines += ["", f"## {_text(section.title)}"]
        for block in section.blocks:
            lines += _block(block)
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    return as_text(cut(text, _CELL_CHARACTERS))


def _block(block: Block) -> list[str]:
    if isinstance(block, Words):
        return ["", f"**{_text(block.text)}**" if block.lead else _text(block.text)]
    return _table(block) if isinstance(block, Table) else _picture(block)


def _picture(picture: Picture) -> list[str]:
    if not picture.in_card:
        return []
    uri = png_uri(picture.figure)
    return ["", f"![{_text(picture.alt)}]({uri})"] if len(uri) <= _PICTURE_CHARACTERS else []


def _table(table: Table) -> list[str]:
    return [
        "",
        f"{_text(table.caption)}:",
        "",
        f"| {' | '.join(map(_text, table.columns))} |",
        f"|{'|'.join('---:' if place in table.numbers else '---' for place in range(len(table.columns)))}|",
        *(f"| {' | '.join(map(_cell, row))} |" for row in table.rows),
    ]


def _cell(cell: str) -> str:
    return f"**{cell}**" if cell in _EMPHASISED and isinstance(cell, Answer) else _text(cell)
