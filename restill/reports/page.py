"""A report as one HTML page that loads nothing, runs nothing, and can be printed."""

import html

from restill.expectations import as_line, html_page
from restill.gates import Answer
from restill.reports.blocks import Block, Document, Picture, Section, Table, Words, cut
from restill.reports.pictures import svg_uri

_CELL_CHARACTERS = 2000  # of our own sentences: they may name many slices
_SHORT_NAME, _SHORT_CELL = 30, 14  # characters that are never broken, so that longer ones beside them are
_SIGNS = {
    Answer.PASS: "✔",
    Answer.FAIL: "✘",
    Answer.INCONCLUSIVE: "▲",
    Answer.OFF: "○",
    Answer.NOT_APPLICABLE: "–",
}
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1f2328; background: #fff; margin: 1.5em auto; max-width: 74em;
  padding: 0 1.5em; }
h1 { font-size: 1.6em; margin: 0.4em 0; border-left: 0.3em solid; padding-left: 0.5em; }
h1.passed { border-color: #1a7f37; } h1.refused { border-color: #cf222e; }
h2 { font-size: 1.25em; margin: 2em 0 0.5em; border-bottom: 1px solid #d0d7de; padding-bottom: 0.2em; }
p { max-width: 62em; margin: 0.6em 0; overflow-wrap: anywhere; }
p.lead { font-size: 1.15em; font-weight: 600; }
nav ul { list-style: none; padding: 0; margin: 0.8em 0; display: flex; flex-wrap: wrap; gap: 0.2em 1.1em; }
a { color: #0550ae; }
table { border-collapse: collapse; margin: 0.8em 0 1.2em; max-width: 100%; }
caption { text-align: left; font-weight: 600; padding: 0.3em 0; color: #424a53; }
th, td { border-bottom: 1px solid #d0d7de; padding: 0.3em 1em 0.3em 0; text-align: left; vertical-align: top; }
thead th { color: #424a53; border-bottom: 2px solid #8c959f; }
tbody th { font-weight: 500; }
th, td { overflow-wrap: anywhere; min-width: 3em; }
thead th { overflow-wrap: normal; }
td { unicode-bidi: isolate; }
td:not(.number, .short, .answer) { min-width: 8em; }
table.texts { width: 100%; } .texts td.text { min-width: 12em; width: 38%; }
.short { white-space: nowrap; overflow-wrap: normal; }
.number { text-align: right; white-space: nowrap; overflow-wrap: normal; font-variant-numeric: tabular-nums; }
thead .number { white-space: normal; }
.answer { white-space: nowrap; overflow-wrap: normal; font-weight: 600; }
.pass { color: #1a7f37; } .fail { color: #cf222e; } .inconclusive { color: #8a5a00; } .off { color: #8a5a00; }
.na { color: #57606a; font-weight: normal; }
figure { margin: 1em 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-weight: 600; color: #424a53; }
@page { size: A4; margin: 14mm 12mm; }
@media print {
  body { font-size: 9.5pt; margin: 0; padding: 0; max-width: none; }
  h2, caption, thead { break-after: avoid; } table, tr, figure, nav { break-inside: avoid; }
  thead { display: table-header-group; } th, td { padding-right: 0.6em; min-width: 2em; }
  .texts td.text { min-width: 8em; } td:not(.number, .short, .answer) { min-width: 7em; }
  figure img { max-height: 240mm; }
  a { color: inherit; text-decoration: none; }
  * { print-color-adjust: exact; }
}
"""


def page(document: Document) -> str:
    """Return a report as a whole HTML page."""
    links = "".join(f'<li><a href="#{section.name}">{_text(section.title)}</a></li>' for section in document.sections)
    body = [
        f'<h1 class="{"passed" if document.passed else "refused"}">{_text(document.title)}</h1>',
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>',
        *(_section(section) for section in document.sections),
    ]
    return html_page(as_line(document.title), "\n".join(["<main>", *body, "</main>"]), style=STYLE)


def _text(text: str) -> str:
    return html.escape(as_line(cut(text, _CELL_CHARACTERS)))


def _section(section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="{section.name}">\n<h2>{_text(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    if isinstance(block, Words):
        return f'<p class="lead">{_text(block.text)}</p>' if block.lead else f"<p>{_text(block.text)}</p>"
    if isinstance(block, Table):
        return _table(block)
    return _picture(block)


def _picture(picture: Picture) -> str:
    return (
        f'<figure><figcaption>{_text(picture.title)}</figcaption><img alt="{_text(picture.alt)}" '
        f'src="{svg_uri(picture.figure)}"></figure>'
    )


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col"{_class(["number"] * (place in table.numbers))}>{_text(name)}</th>'
        for place, name in enumerate(table.columns)
    )
    rows = []
    for row in table.rows:
        cells = [f'<th scope="row"{_class(["short"] * (len(row[0]) <= _SHORT_NAME))}>{_text(row[0])}</th>']
        for place, cell in enumerate(row[1:], start=1):
            if isinstance(cell, Answer):
                name = "na" if cell is Answer.NOT_APPLICABLE else cell.value
                cells.append(f'<td class="answer {name}">{_SIGNS[cell]} {_text(cell.value)}</td>')
            elif place in table.texts:
                cells.append(f'<td class="text" dir="auto">{_text(cell)}</td>')
            else:
                kinds = ["number"] * (place in table.numbers) + ["short"] * (len(cell) <= _SHORT_CELL)
                cells.append(f"<td{_class(kinds)}>{_text(cell)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    start = f"<table{_class(['texts'] * (len(table.texts) > 1))}><caption>{_text(table.caption)}</caption>"
    return "\n".join([start, f"<thead><tr>{heads}</tr></thead>", "<tbody>", *rows, "</tbody></table>"])


def _class(names: list[str]) -> str:
    return f' class="{" ".join(names)}"' if names else ""
