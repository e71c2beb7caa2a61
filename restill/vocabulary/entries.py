"""What every student vocabulary has in common: its first two entries, and how one is made from counts."""

from collections import Counter
from collections.abc import Iterator

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID, UNKNOWN_ID = 0, 1

MIN_COUNT = 2  # occurrences from which a character or word of the corpus gets an entry


def most_frequent(counts: Counter[str], room: int) -> list[str]:
    """Return the `room` most frequent entries, most frequent first; ties in code-point order, on every machine."""
    return sorted(counts, key=lambda entry: (-counts[entry], entry))[: max(room, 0)]


def numbered(entries: Iterator[str] | list[str]) -> dict[str, int]:
    """Return ids: 0 pads, 1 is unknown, then the entries in the order given."""
    return {entry: identity for identity, entry in enumerate([PAD, UNKNOWN, *entries])}
