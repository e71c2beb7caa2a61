"""What goes into each drop, and what is done to the drops that must fail."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

from restill.sample.dice import Dice
from restill.sample.families import POSITIVE_SHARE, SEED, FamilyMaker, Pair, Territory
from restill.sample.topics import COMMON, HELD_BACK, Topic
from restill.sample.words import LANGUAGES


@dataclass(frozen=True)
class Course:
    """One part of a drop."""

    pairs_per_language: int
    topics: tuple[Topic, ...]
    territory: Territory
    matching_share: float = POSITIVE_SHARE


FAMILIAR = tuple(topic for topic in COMMON if topic.source in ("light", "cover", "climate"))

# Territories of courses that share topics do not overlap: that is what keeps drops disjoint.
COURSES: dict[str, tuple[Course, ...]] = {
    "1": (Course(10_900, COMMON, Territory(0, 46)),),
    "2": (Course(2_550, HELD_BACK, Territory(0, 100)), Course(450, FAMILIAR, Territory(46, 56))),
    "poisoned": (Course(2_000, COMMON, Territory(56, 66)),),
    "degrading": (Course(7_100, COMMON, Territory(66, 100), matching_share=1 - POSITIVE_SHARE),),
}
LONGER_THAN_ALLOWED = 600  # characters; the default limit is 512
DAMAGES = 9


def make_rows(drop: str) -> list[Pair]:
    """Return the rows of a drop, in an order of their own.

    Raises: ConfigurationError if the templates of a language are missing.
    """
    pairs = [
        pair
        for number, course in enumerate(COURSES[drop])
        for language in LANGUAGES
        for family in FamilyMaker(
            f"{drop}.{number}", language, course.topics, course.territory, matching_share=course.matching_share
        ).families(course.pairs_per_language)
        for pair in family
    ]
    rows = Dice(SEED, drop, "order").shuffled(pairs)
    if drop == "degrading":
        return [_flip(row) for row in rows]  # drawn with swapped shares, so the balance is the usual one again
    if drop == "poisoned":
        return _poison(rows)
    return rows


def _poison(rows: list[Pair]) -> list[Pair]:
    """Flip every label, then break every second row."""
    flipped = [_flip(row) for row in rows]
    whole, broken = flipped[0::2], flipped[1::2]
    damaged = _damage(broken, whole)
    return [row for two in itertools.zip_longest(whole, damaged) for row in two if row is not None]


def _flip(row: Pair) -> Pair:
    return replace(row, label="0" if row.label == "1" else "1")


def _damage(rows: list[Pair], whole: list[Pair]) -> Iterable[Pair]:
    """Yield each row broken in one of the ways that row rules know."""
    for number, row in enumerate(rows):
        match number % DAMAGES:
            case 0:
                yield replace(row, text_a="")
            case 1:
                yield replace(row, text_b="   ")
            case 2:
                yield replace(row, label="2" if number % (2 * DAMAGES) == 2 else "maybe")
            case 3:
                yield replace(row, text_a=row.text_a[:3] + "\ufffd\ufffd" + row.text_a[3:])
            case 4:
                yield replace(row, text_b=row.text_a, label="0")
            case 5:
                yield replace(row, text_a=(row.text_a + " ") * (LONGER_THAN_ALLOWED // len(row.text_a) + 1))
            case 6:
                yield row  # contradicted by the next one, so neither can be believed
            case 7:
                yield _flip(rows[number - 1])
            case _:
                yield whole[number]  # a second time
