"""A version's provenance as a picture: what it came from, how it was judged, and the champions before it.

One self-contained SVG. Its letters are of one width, so that a line's length is known without measuring it.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as Xml

from restill.manifests import SHORT
from restill.provenance import Provenance
from restill.telling import MARKS, Line, Section, Tone, headline, sections

_WIDTH = 1500
_MARGIN = 28
_GAP = 44
_PADDING = 14
_LETTER = 7.25  # width of one at _SIZE, of any font named below
_SIZE = 12
_LEADING = 17
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK SC', monospace"
_INK, _QUIET, _EDGE, _PAPER = "#1f2328", "#656d76", "#afb8c1", "#f6f8fa"
_COLOURS: dict[Tone, str] = {
    "plain": _INK,
    "good": "#116329",
    "bad": "#a40e26",
    "doubt": "#7d4e00",
    "quiet": _QUIET,
}
_SHOWN = 6  # boxes of the chain, this version's own among them


@dataclass(frozen=True)
class _Card:
    """A box of lines, laid out for its width."""

    title: str
    rows: tuple[tuple[str, str, Tone], ...]  # label, text, tone
    x: float
    y: float
    width: float

    @property
    def height(self) -> float:
        return 2 * _PADDING + _LEADING * (len(self.rows) + 1) + 6


def draw(found: Provenance) -> bytes:
    """Return the picture as an SVG document, UTF-8."""
    told = {section.title: section for section in sections(found)}
    inner = _WIDTH - 2 * _MARGIN
    column = (inner - 2 * _GAP) / 3
    x = [_MARGIN + number * (column + _GAP) for number in range(3)]
    top = 92.0
    data = _card(told["Learned from"], x[0], top, column)
    made = _card(told["Made with"], x[0], data.y + data.height + 24, column)
    judged = _card(told["Judged"], x[1], top, column)
    live = _card(told["Live"], x[2], top, column)
    cards = [data, made, judged, live]
    if "Not known" in told:
        cards.append(_card(told["Not known"], x[2], live.y + live.height + 24, column))
    bottom = max(card.y + card.height for card in cards)
    chain_y = bottom + 62
    height = chain_y + 92 + _MARGIN

    svg = Xml.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {height:.0f}", role="img")
    svg.set("width", str(_WIDTH))
    svg.set("height", f"{height:.0f}")
    svg.set("font-family", _FONT)
    Xml.SubElement(svg, "title").text = headline(found)
    Xml.SubElement(svg, "rect", width=str(_WIDTH), height=f"{height:.0f}", fill="#ffffff")
    _arrowhead(svg)
    _text(svg, _MARGIN, 42, f"{found.model} {found.version[:SHORT]}", size=22, weight="bold")
    for number, line in enumerate(_wrapped(headline(found), int(inner / (_LETTER * 14 / _SIZE)))[:2]):
        _text(svg, _MARGIN, 66 + 18 * number, line, size=14, colour=_QUIET)
    for card in cards:
        _draw_card(svg, card)
    _arrow(svg, (data.x + column, data.y + 24), (judged.x, judged.y + 24))
    _arrow(svg, (made.x + column, made.y + 24), (judged.x, min(made.y + 24, judged.y + judged.height - 12)))
    _arrow(svg, (judged.x + column, judged.y + 24), (live.x, live.y + 24))
    heading = "Champions, oldest first; each accuracy is of the test split it was judged on"
    _text(svg, _MARGIN, chain_y - 16, heading, size=14, weight="bold")
    _draw_chain(svg, found, chain_y)
    document: bytes = Xml.tostring(svg, encoding="utf-8", xml_declaration=True)
    return document


def _card(section: Section, x: float, y: float, width: float) -> _Card:
    letters = int((width - 2 * _PADDING) / _LETTER)
    indent = min(max((_cells(line.label) for line in section.lines), default=0), 18) + 1
    rows: list[tuple[str, str, Tone]] = []
    for line in section.lines:
        rows += _rows(line, indent, letters)
    return _Card(section.title, tuple(rows), x, y, width)


def _rows(line: Line, indent: int, letters: int) -> Iterator[tuple[str, str, Tone]]:
    wide = _cells(line.label) >= indent
    if wide:  # its text begins below it
        yield line.label, "", line.tone
    for number, part in enumerate(_wrapped(MARKS.get(line.tone, "") + line.text, letters - indent)):
        yield line.label if number == 0 and not wide else "", " " * indent + part, line.tone


def _draw_card(svg: Xml.Element, card: _Card) -> None:
    Xml.SubElement(
        svg,
        "rect",
        x=f"{card.x:.1f}",
        y=f"{card.y:.1f}",
        width=f"{card.width:.1f}",
        height=f"{card.height:.1f}",
        rx="8",
        fill=_PAPER,
        stroke=_EDGE,
    )
    x, y = card.x + _PADDING, card.y + _PADDING + 12
    _text(svg, x, y, card.title, size=14, weight="bold")
    for number, (label, text, tone) in enumerate(card.rows, start=1):
        line = y + 6 + number * _LEADING
        if label:
            _text(svg, x, line, label, colour=_QUIET)
        if text.strip():
            indent = len(text) - len(text.lstrip(" "))
            _text(svg, x + indent * _LETTER, line, text.lstrip(" "), colour=_COLOURS[tone])


def _draw_chain(svg: Xml.Element, found: Provenance, y: float) -> None:
    """Draw this version and the champions before it; of a long chain, its first and its last ones."""
    boxes = [
        (
            ancestor.version,
            f"#{ancestor.number}" if ancestor.number else "not in this history",
            ancestor.since,
            ancestor.accuracy,
            ancestor.forced,
        )
        for ancestor in reversed(found.ancestors)
    ]
    if len(boxes) > _SHOWN - 1:
        boxes = boxes[:1] + boxes[-(_SHOWN - 2) :]
    left_out = len(found.ancestors) - len(boxes)
    accuracy = found.judgement.accuracy.get("challenger") if found.judgement else None
    last = found.lives[-1] if found.lives else None
    number = f"#{last.number}" if last else f"never {found.alias}"
    boxes.append((found.version, number, last.since if last else None, accuracy, bool(last and last.forced)))
    step = (_WIDTH - 2 * _MARGIN) / _SHOWN
    for place, (version, number, since, quality, forced) in enumerate(boxes):
        x, here = _MARGIN + place * step, place == len(boxes) - 1
        _box(svg, x, y, step - 34, here)
        _text(svg, x + 12, y + 22, version[:SHORT], size=13, weight="bold")
        _text(svg, x + 12, y + 40, f"{number}{f', {since:%Y-%m-%d}' if since else ''}", colour=_QUIET)
        said = "accuracy not known" if quality is None else f"accuracy {quality:.4f}"
        _text(svg, x + 12, y + 58, said)
        if forced:
            _text(svg, x + 12, y + 76, "✘ forced", colour=_COLOURS["bad"])
        if not here:
            _arrow(svg, (x + step - 34, y + 40), (x + step, y + 40))
            if place == 0 and left_out:
                _text(svg, x + step - 32, y + 30, f"+{left_out}", colour=_QUIET)


def _box(svg: Xml.Element, x: float, y: float, width: float, here: bool) -> None:
    edge = {"stroke": _COLOURS["good"], "stroke-width": "2"} if here else {"stroke": _EDGE}
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": "86", "rx": "8"}
    Xml.SubElement(svg, "rect", {**place, "fill": _PAPER, **edge})


def _arrowhead(svg: Xml.Element) -> None:
    marker = Xml.SubElement(
        Xml.SubElement(svg, "defs"),
        "marker",
        id="head",
        viewBox="0 0 8 8",
        refX="7",
        refY="4",
        markerWidth="8",
        markerHeight="8",
        orient="auto",
    )
    Xml.SubElement(marker, "path", d="M0 0L8 4L0 8z", fill=_QUIET)


def _arrow(svg: Xml.Element, start: tuple[float, float], end: tuple[float, float]) -> None:
    middle = (start[0] + end[0]) / 2
    points = (start, (middle, start[1]), (middle, end[1]), end)
    curve = "M{} C{} {} {}".format(*(f"{x:.1f} {y:.1f}" for x, y in points))
    Xml.SubElement(svg, "path", {"d": curve, "fill": "none", "stroke": _QUIET, "marker-end": "url(#head)"})


def _text(
    svg: Xml.Element, x: float, y: float, text: str, *, size: int = _SIZE, colour: str = _INK, weight: str = "normal"
) -> None:
    element = Xml.SubElement(svg, "text", x=f"{x:.1f}", y=f"{y:.1f}", fill=colour)
    element.set("font-size", str(size))
    element.set("font-weight", weight)
    element.text = text


def _cells(text: str) -> int:
    """Return how many letters wide a text is; Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _wrapped(text: str, letters: int) -> list[str]:
    """Break a text into lines of so many letters, between words where that is possible."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if _cells(joined) <= letters:
            line = joined
            continue
        if line:
            lines.append(line)
        line = ""
        for sign in word:
            if _cells(line + sign) > letters:
                lines.append(line)
                line = ""
            line += sign
    return [*lines, line] if line or not lines else lines
