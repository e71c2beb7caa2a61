"""Choices that a key alone decides: no clock, no global state, and no generator that a Python release could change."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Dice:
    """An endless stream of choices; the same key gives the same stream everywhere."""

    def __init__(self, *key: object) -> None:
        """Start the stream that `key` names: strings and whole numbers, whose text is the same everywhere."""
        self._hash = hashlib.blake2b("\x1f".join(str(part) for part in key).encode(), digest_size=8)
        self._rolls = 0

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to `limit` - 1; limits are far below 2^64, so the bias does not show."""
        self._rolls += 1
        roll = self._hash.copy()
        roll.update(self._rolls.to_bytes(8, "big"))
        return int.from_bytes(roll.digest(), "big") % limit

    def toss(self, share: float) -> bool:
        """Return True with probability `share`, in steps of a millionth."""
        return self.below(1_000_000) < round(share * 1_000_000)

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Iterable[Item]) -> list[Item]:
        """Return the items in an order of their own (Fisher and Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result
