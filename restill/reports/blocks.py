"""What a report is made of, whatever it is written as: sections of sentences, tables and pictures.

Texts in here are as they came; who writes them down escapes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

TEXT_CHARACTERS = 300  # of a sentence, a name or a value that came with the data


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    lead: bool = False  # the one to read if no other


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first cell of a row names it. A cell that is an `Answer` is shown as one."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: frozenset[int] = field(default=frozenset())  # columns whose cells are short and align to the right
    texts: frozenset[int] = field(default=frozenset())  # columns of other people's sentences, in any language


@dataclass(frozen=True)
class Picture:
    """A plot, and in words what it shows."""

    figure: Figure
    title: str
    alt: str
    in_card: bool = True  # also in the Markdown


Block = Words | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of the report with a heading; one without blocks is left out."""

    name: str  # address within the page
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    passed: bool
    sections: Sequence[Section]


def cut(text: str, characters: int = TEXT_CHARACTERS) -> str:
    """Return a text of at most that many characters, with … in place of the rest."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def number(value: float | None, form: str = ".3f") -> str:
    """Return a measured number in words that cannot be taken for one if it is missing."""
    return "not measured" if value is None else format(value, form)
