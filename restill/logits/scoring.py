"""Scoring: encode what the store lacks, shard by shard."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from restill.logits.store import LogitsStore
from restill.teachers import Teacher


@dataclass(frozen=True)
class ScoreReport:
    """What one scoring run did."""

    scored: int
    already: int
    seconds: float
    padding_share: float


def score(
    load_teacher: Callable[[], Teacher],
    logits: LogitsStore,
    sentences: Iterable[str],
    *,
    shard_sentences: int,
    progress: Callable[[int, int, str], None],
) -> ScoreReport:
    """Encode and store the sentences that the store lacks, shard by shard: a kill loses one shard at most.

    Args:
        load_teacher: gives the teacher whose embeddings the store holds; called only if something is missing.
        logits: the store.
        sentences: any sentences, repeats included.
        shard_sentences: sentences per shard.
        progress: called after every shard with sentences done, sentences to do in this run, and the speed in words.

    Returns: how many distinct sentences were scored and were there already, and the padding computed.

    Raises: ValueError if the store is another teacher's; what the store's `missing` and `add` raise.
    """
    started = time.monotonic()
    distinct = set(sentences)
    missing = logits.missing(distinct)
    if not missing:
        return ScoreReport(0, len(distinct), time.monotonic() - started, 0.0)
    teacher = load_teacher()
    if teacher.fingerprint != logits.fingerprint:
        raise ValueError(
            "A store holds one teacher's embeddings. "
            f"Received: teacher {teacher.fingerprint}, store {logits.fingerprint}."
        )
    # Stable, so equal lengths stay in digest order: like lengths share a shard, and little is padded.
    order = np.argsort(teacher.count_tokens(missing), kind="stable")
    real, padded = teacher.real_tokens, teacher.padded_tokens
    encoding = time.monotonic()
    for start in range(0, len(missing), shard_sentences):
        part = [missing[row] for row in order[start : start + shard_sentences]]
        logits.add(part, teacher.encode(part))
        done = start + len(part)
        progress(done, len(missing), f"{done / max(time.monotonic() - encoding, 1e-9):,.0f} a second")
    real, padded = teacher.real_tokens - real, teacher.padded_tokens - padded
    return ScoreReport(
        scored=len(missing),
        already=len(distinct) - len(missing),
        seconds=time.monotonic() - started,
        padding_share=1 - real / padded,
    )
