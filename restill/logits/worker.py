"""One worker of a plan: it needs the object store and the teacher, and no data set.

Every worker goes round all shards, its own first, and computes those that nobody has stored. So a worker that dies
costs the shard it had in hand, and the others do its share. Who stores a shard second stores nothing.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from restill.errors import RestillError, TeacherError
from restill.logits import jobs, places
from restill.logits.items import Item, digests_of
from restill.logits.jobs import ScoringPlan
from restill.logits.shards import NO_TOKENS, Embeddings, Tokens, store_shard
from restill.settings.teaching import TeacherKind
from restill.storage.objects import ObjectStore


class ItemTeacher(Protocol):
    """What a worker asks of a teacher."""

    kind: TeacherKind
    fingerprint: str
    real_tokens: int
    padded_tokens: int

    def tokenize(self, items: Sequence[Item]) -> Sequence[Any]:
        """Return items as `encode_rows` takes them; called while other rows are encoded."""

    def encode_rows(self, rows: Sequence[Any]) -> Embeddings:
        """Return float32 ``[n, dimension]``, an output per row."""


@dataclass(frozen=True)
class WorkReport:
    """What one worker did."""

    planned: bool  # False: the plan was not there, so nothing was left to do
    shards: int = 0  # stored by it
    items: int = 0
    late: int = 0  # shards that another one stored while it computed them
    tokens: Tokens = NO_TOKENS

    @property
    def sentence(self) -> str:
        """Return the report for a person."""
        if not self.planned:
            return "There is no such plan: its run is over, or this worker uses another object store."
        late = f"; {self.late} more came late" if self.late else ""
        return f"Stored {self.shards:,} shards with {self.items:,} scores{late}."


def work(
    plan_key: str,
    *,
    share: int,
    shares: int,
    store: ObjectStore,
    load_teacher: Callable[[], ItemTeacher],
    progress: Callable[[int, int, str], None],
) -> WorkReport:
    """Compute and store shards of a plan until all of them are stored, by this worker or by others.

    A shard is encoded in one call, so its scores do not depend on how many workers there are. The next shard is
    fetched and tokenised and the last one is stored while one is computed.

    Args:
        plan_key: of the plan in the object store.
        share: this worker's number, from 0.
        shares: how many workers there are.
        store: holds the plan and takes the scores.
        load_teacher: called only if a shard is missing.
        progress: called after each shard computed here with its items so far, the plan's items, and a remark.

    Raises: TeacherError if the teacher is not the plan's, or gives values that are not finite; IntegrityError naming a
        damaged object; RestillError if the texts of a missing shard were removed; StorageUnreachable.
    """
    plan = jobs.read_plan(store, plan_key)
    if plan is None:
        return WorkReport(planned=False)
    teacher: ItemTeacher | None = None
    stored: list[tuple[int, Tokens, bool]] = []
    with (
        ThreadPoolExecutor(1, thread_name_prefix="fetch") as fetching,
        ThreadPoolExecutor(1, thread_name_prefix="store") as storing,
    ):
        todo = _todo(plan, store, share=share, shares=shares)
        coming = fetching.submit(_fetched, todo, None)
        going: Future[bool] | None = None
        try:
            while (fetched := coming.result()) is not None:
                items, rows = fetched
                if teacher is None:
                    teacher = _checked(load_teacher(), plan)
                    rows = teacher.tokenize(items)
                coming = fetching.submit(_fetched, todo, teacher)
                before = Tokens(teacher.real_tokens, teacher.padded_tokens)
                embeddings = teacher.encode_rows(rows)
                tokens = Tokens(teacher.real_tokens - before.real, teacher.padded_tokens - before.padded)
                if going is not None:
                    stored[-1] = (*stored[-1][:2], going.result())  # no more than one waits to be stored
                going = storing.submit(store_shard, store, plan.fingerprint, digests_of(items), embeddings, tokens)
                stored.append((len(items), tokens, False))
                progress(sum(count for count, _, _ in stored), plan.total, f"share {share + 1} of {shares}")
            if going is not None:
                stored[-1] = (*stored[-1][:2], going.result())
        finally:
            coming.cancel()
    return WorkReport(
        planned=True,
        shards=sum(won for _, _, won in stored),
        items=sum(count for count, _, won in stored if won),
        late=sum(not won for _, _, won in stored),
        tokens=sum((tokens for _, tokens, won in stored if won), NO_TOKENS),
    )


def _fetched(todo: Iterator[list[Item]], teacher: ItemTeacher | None) -> tuple[list[Item], Sequence[Any]] | None:
    """Return the items of the next shard and, with a teacher, what it makes of them."""
    items = next(todo, None)
    return None if items is None else (items, teacher.tokenize(items) if teacher is not None else ())


def order_of(shards: Sequence[str], *, share: int, shares: int) -> list[str]:
    """Return all shards in the order in which a worker looks at them.

    First its own, every `shares`-th, the long items of the end first: so shares take about the same time, and the
    last shards to be computed are quick. Then the others' in an order of its own, so that helpers seldom meet.
    """
    own = list(shards[share::shares])[::-1]
    others = [shard for number, shard in enumerate(shards) if number % shares != share]
    random.Random(share).shuffle(others)  # noqa: S311 - it spreads work
    return own + others


def _todo(plan: ScoringPlan, store: ObjectStore, *, share: int, shares: int) -> Iterator[list[Item]]:
    """Yield the items of each shard that nobody has stored."""
    done = places.stored_shards(store, plan.fingerprint)
    for shard in order_of(plan.shards, share=share, shares=shares):
        if shard in done:
            continue
        if store.head(places.shard_key(plan.fingerprint, shard)) is not None:
            done = places.stored_shards(store, plan.fingerprint)  # others got here: see what else they did
            continue
        items = jobs.read_work(store, plan.fingerprint, plan.kind, shard)
        if items is not None:
            yield items
        elif store.head(places.shard_key(plan.fingerprint, shard)) is None:  # else it was stored this moment
            raise RestillError(
                f"{places.work_key(plan.fingerprint, shard)} is gone, and its scores are not stored.",
                hint="Texts that wait to be scored are removed when data is forgotten. Run `restill score` again.",
            )


def _checked(teacher: ItemTeacher, plan: ScoringPlan) -> ItemTeacher:
    if (teacher.fingerprint, teacher.kind) != (plan.fingerprint, plan.kind):
        raise TeacherError(
            f"The plan is for the {plan.kind} {plan.fingerprint[:12]}; this worker's teacher is the {teacher.kind} "
            f"{teacher.fingerprint[:12]}.",
            hint="Give worker and coordinator the same files and the same [teacher] settings, precision included.",
        )
    return teacher
