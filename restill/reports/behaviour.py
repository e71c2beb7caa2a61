"""The section on behaviour: swapped sides, changes that keep the meaning, golden pairs."""

from restill.reports.blocks import Block, Table, Words, cut
from restill.reports.judged import Judged


def behaviour(judged: Judged) -> list[Block]:
    """Return what the challenger answers where the right answer is known beforehand."""
    found = judged.measurements
    return [Words(_swapped(found.swap_difference)), *_invariances(judged), *_golden(found.golden_failures)]


def _swapped(difference: float | None) -> str:
    if difference is None:
        return "Swapped pairs were not scored."
    if difference == 0:
        return "Swapping the sides of a pair changes nothing."
    return f"Swapping the sides of a pair changes its similarity by up to {difference:.1e}."


def _invariances(judged: Judged) -> list[Block]:
    found = judged.measurements.invariances
    if not found:
        return [Words("Changes that keep the meaning were not tried.")]
    return [
        Table(
            "Changes of the first sentence that keep its meaning",
            ("change", "pairs it applies to", "changed decisions", "largest change of a probability"),
            [
                (
                    check.name,
                    f"{check.pairs:,}",
                    f"{check.changed_decisions:.1%}" if check.pairs else "–",
                    f"{check.largest_change:.3f}" if check.pairs else "–",
                )
                for check in found
            ],
            numbers=frozenset({1, 2, 3}),
        )
    ]


def _golden(failures: tuple[str, ...] | None) -> list[Block]:
    if failures is None:
        return [Words("No golden pairs are configured (gates.golden_pairs).")]
    if not failures:
        return [Words("Every golden pair is right.")]
    rows = [(f"{place}", cut(failure)) for place, failure in enumerate(failures, start=1)]
    return [
        Table(f"Golden pairs that are answered wrongly: {len(rows):,}", ("pair", "texts"), rows, texts=frozenset({1}))
    ]
