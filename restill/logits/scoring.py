"""Scoring in this process: what a notebook, or a machine without a second device, needs."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from restill.errors import RestillError
from restill.logits import cleaning, planning, worker
from restill.logits.cache import Tally
from restill.logits.jobs import ScoringPlan
from restill.logits.store import LogitsStore
from restill.logits.worker import ItemTeacher
from restill.snapshots import Snapshot

LOOK_SHARE = 0.1  # looking at what is stored takes at most this share of the time: a large store takes long to list

Progress = Callable[[int, int, str], None]  # items done, items to do, the speed and the padding in words


@dataclass(frozen=True)
class ScoreReport:
    """What one scoring run did."""

    scored: int
    already: int
    seconds: float
    padding_share: float
    what: str = "sentences"

    @property
    def sentence(self) -> str:
        """Return the report for a person."""
        if not self.scored:
            return f"The teacher's scores of all {self.already:,} {self.what} were there."
        speed = self.scored / max(self.seconds, 1e-9)
        return (
            f"Scored {self.scored:,} {self.what} in {self.seconds:,.0f} seconds ({speed:,.0f} a second, "
            f"{self.padding_share:.0%} padding); {self.already:,} were there."
        )


class Speed:
    """How fast a run is, in words."""

    def __init__(self, done: int = 0) -> None:
        """Start the clock with this many items done."""
        self._before = done
        self._started = time.monotonic()

    def said(self, tally: Tally) -> str:
        """Return speed and padding so far."""
        speed = (tally.items - self._before) / max(time.monotonic() - self._started, 1e-9)
        return f"{speed:,.0f} a second, {tally.tokens.padding_share:.0%} padding"


def score(
    load_teacher: Callable[[], ItemTeacher],
    logits: LogitsStore,
    snapshot: Snapshot,
    *,
    shard_items: int,
    progress: Progress,
) -> ScoreReport:
    """Score what a data set lacks, in this process: a kill loses one shard at most.

    Args:
        load_teacher: gives the teacher whose scores the store holds; called only if something is missing.
        logits: the store.
        snapshot: the data version.
        shard_items: items a shard.
        progress: called after every shard.

    Raises: what `planning.make_plan`, `worker.work` and `finish` raise.
    """
    started = time.monotonic()
    need = planning.find_need(snapshot, logits)
    plan = planning.make_plan(snapshot, logits, shard_items=shard_items) if need.missing else None
    if plan is not None:
        score_here(plan, logits, load_teacher, progress=progress)
    return finish(plan, logits, need, seconds=time.monotonic() - started)


def score_here(
    plan: ScoringPlan, logits: LogitsStore, load_teacher: Callable[[], ItemTeacher], *, progress: Progress
) -> None:
    """Work on a plan in this process until all of it is stored.

    Raises: what `worker.work` raises.
    """
    speed: Speed | None = None
    seen = own = 0  # items stored at the last look, and this process's among them
    said = ""
    next_look = 0.0

    def report(done: int, total: int, _what: str) -> None:
        nonlocal speed, seen, own, said, next_look
        looked = time.monotonic()
        if looked >= next_look or seen + done - own >= total:
            tally = logits.tally(plan.shards)  # as others may work on the same plan
            speed = speed or Speed(tally.items)
            seen, own, said = tally.items, done, speed.said(tally)
            next_look = looked + (time.monotonic() - looked) / LOOK_SHARE
        progress(seen + done - own, total, said)

    worker.work(plan.key, share=0, shares=1, store=logits.objects, load_teacher=load_teacher, progress=report)


def finish(plan: ScoringPlan | None, logits: LogitsStore, need: planning.Need, *, seconds: float) -> ScoreReport:
    """Make sure that a plan is done, and remove its texts from the object store.

    Args:
        plan: None: nothing was missing.
        logits: the teacher's scores.
        need: what the data set needed before.
        seconds: since then.

    Raises: RestillError if shards are missing; StorageUnreachable, IntegrityError.
    """
    shards = plan.shards if plan else ()
    tally = logits.tally(shards)
    if tally.shards < len(shards):
        raise RestillError(
            f"{len(shards) - tally.shards} of {len(shards)} shards are still missing of {plan.key if plan else ''}.",
            hint="Run the same again: what is stored is kept.",
        )
    cleaning.sweep(logits.objects, logits.fingerprint)
    return ScoreReport(
        scored=tally.items,
        already=need.distinct - need.missing,
        seconds=seconds,
        padding_share=tally.tokens.padding_share,
        what=need.what,
    )
