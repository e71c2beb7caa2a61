"""Seeing a plan through with several workers, wherever they run: the object store alone says what is done."""

import time
from collections.abc import Callable
from typing import Protocol

from restill.errors import RestillError
from restill.logits.jobs import ScoringPlan
from restill.logits.scoring import LOOK_SHARE, Progress, Speed
from restill.logits.store import LogitsStore

MAX_REPLACEMENTS = 3  # of each worker
_LOOK_SECONDS = 0.5


class Workers(Protocol):
    """The workers of one plan, each named by its share."""

    def start(self, share: int) -> None:
        """Start the worker of a share, again if it ended."""

    def ended(self) -> dict[int, str]:
        """Return the workers that ended, and how, in words.

        Raises: RestillError with what a worker could not do, if every other worker could not do it either.
        """

    def stop(self) -> None:
        """End those that still run; none is fine."""


def supervise(
    plan: ScoringPlan,
    logits: LogitsStore,
    workers: Workers,
    *,
    shares: int,
    stall_seconds: float | None,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Start workers and return when every shard is stored; a worker that ends before is replaced, three times at most.

    Args:
        plan: what is to be scored.
        logits: the teacher's scores.
        workers: who does it.
        shares: how many workers there are to be.
        stall_seconds: time without a new shard after which all workers are given up and replaced; None: never, as
            it would be known if they had ended.
        progress: called with items done, items to do, the speed and the padding in words.
        say: called with a sentence when a worker was lost.

    Raises: RestillError if no worker is left, or no shard came from replaced ones either; what `Workers.ended` and
        `LogitsStore.tally` raise.
    """
    replaced = dict.fromkeys(range(shares), 0)
    speed: Speed | None = None
    stored = -1
    changed = time.monotonic()
    try:
        for share in range(shares):
            workers.start(share)
        while True:
            looked = time.monotonic()
            ended = workers.ended()  # before the tally: one that ended because all was done is seen to have
            tally = logits.tally(plan.shards)
            if tally.shards > stored:
                # The clock starts with the first shard: until then workers start and load the teacher.
                speed = speed or (Speed(tally.items) if stored >= 0 else None)
                stored, changed = tally.shards, looked
            progress(tally.items, plan.total, speed.said(tally) if speed else f"{shares} workers are starting")
            if tally.shards == len(plan.shards):
                return
            if stall_seconds is not None and looked - changed > stall_seconds:
                workers.stop()
                changed = looked
                ended = dict.fromkeys(range(shares), f"no new shard came for {stall_seconds:,.0f} seconds")
            again = [share for share in ended if replaced[share] < MAX_REPLACEMENTS]
            if len(ended) == shares and not again:
                raise RestillError(
                    f"{len(plan.shards) - tally.shards} of {len(plan.shards)} shards are missing, and no worker is "
                    f"left. The last one: {ended[shares - 1]}.",
                    hint="See the workers' own logs, and that they use this object store and this teacher. "
                    "Then run again: what is stored is kept.",
                )
            for share in again:
                replaced[share] += 1
                say(f"worker {share + 1} of {shares} is replaced: {ended[share]}")
                workers.start(share)
            time.sleep(max(_LOOK_SECONDS, (time.monotonic() - looked) / LOOK_SHARE))
    finally:
        workers.stop()
