"""Behavioural checks: what a change of the input that keeps its meaning does to the answers.

After the invariance tests of CheckList (Ribeiro et al. 2020, https://aclanthology.org/2020.acl-main.442).
"""

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from restill.measurements import Invariance
from restill.serving import PairModel

_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}
_ENDS = ".。?？!！…~～ \u3000"
_MOST_PAIRS = 1000
_SWAPPED_PAIRS = 200


def upper_case(text: str) -> str:
    """Return the text in capitals."""
    return text.upper()


def full_width(text: str) -> str:
    """Return the text with Latin letters, digits, punctuation and spaces in their full-width forms."""
    return text.translate(_FULL_WIDTH)


def end_mark(text: str) -> str:
    """Return the text without the marks at its end or, if there are none, with a full stop of its script."""
    bare = text.rstrip(_ENDS)
    if bare and bare != text:
        return bare
    return f"{text}{'。' if unicodedata.east_asian_width(text[-1]) == 'W' else '.'}"


CHANGES: dict[str, Callable[[str], str]] = {
    "casing": upper_case,
    "punctuation": end_mark,
    "full width": full_width,
}


def measure(model: PairModel, pairs: Sequence[tuple[str, str]]) -> tuple[Invariance, ...]:
    """Apply each change to the first side of the pairs and compare the answers with those to the pairs as they are.

    At most 1,000 pairs are used, a fixed sample. A pair that a change leaves as it is does not count, so casing is not
    measured on Chinese.
    """
    chosen = sample(pairs)
    before = np.array([answer.probability for answer in model.predict(chosen)])
    threshold = model.calibration.threshold
    found = []
    for name, change in CHANGES.items():
        rows = [row for row, (a, _) in enumerate(chosen) if change(a) != a]
        changed = [(change(chosen[row][0]), chosen[row][1]) for row in rows]
        after = np.array([answer.probability for answer in model.predict(changed)]) if changed else np.empty(0)
        moved = np.abs(after - before[rows])
        found.append(
            Invariance(
                name=name,
                pairs=len(rows),
                largest_change=float(moved.max(initial=0.0)),
                changed_decisions=float(((after >= threshold) != (before[rows] >= threshold)).mean()) if rows else 0.0,
            )
        )
    return tuple(found)


def swap_difference(model: PairModel, path: Path, pairs: Sequence[tuple[str, str]]) -> float:
    """Return by how much a similarity changes, at most, when the sides of a pair are swapped.

    Of pairs asked for one at a time, of pairs asked for together, and of the file's own `similarity` signature, for
    those who call it without Restill.

    Args:
        model: what is served.
        path: its model file.
        pairs: of which a fixed sample is taken.
    """
    chosen = sample(pairs)[:_SWAPPED_PAIRS]
    swapped = [(b, a) for a, b in chosen]
    alone = [
        float(abs(model.similarity([pair])[0] - model.similarity([back])[0]))
        for pair, back in zip(chosen, swapped, strict=True)
    ]
    together = np.abs(model.similarity(chosen) - model.similarity(swapped)).max()
    return max(*alone, float(together), _signature_difference(model, path, chosen))


def _signature_difference(model: PairModel, path: Path, pairs: Sequence[tuple[str, str]]) -> float:
    similarity = Interpreter(model_path=str(path), num_threads=1).get_signature_runner("similarity")
    largest = 0.0
    for pair in pairs:
        ids = model.tokenize(pair)
        ids = ids[:, : max(1, int((ids != 0).sum(axis=1).max()))]
        there = similarity(ids_a=ids[:1], ids_b=ids[1:])["similarity"]
        back = similarity(ids_a=ids[1:], ids_b=ids[:1])["similarity"]
        largest = max(largest, float(np.abs(there - back).max()))
    return largest


def sample(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs that are checked: the same of the same test split."""
    if len(pairs) <= _MOST_PAIRS:
        return list(pairs)
    return [pairs[row] for row in np.sort(np.random.default_rng(0).permutation(len(pairs))[:_MOST_PAIRS])]
