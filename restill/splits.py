"""Which split a pair belongs to: decided by its sentences, so that no sentence is ever in two splits.

Pairs that share a sentence, directly or over others, form a group; a group goes to one split as a whole, by a stable
hash, so adding a batch never moves an old pair and the order of rows does not matter. A group that cannot go as a
whole (it touches sentences of several splits, or it is a giant) is decided sentence by sentence, and the pairs whose
two sides then disagree are kept out.

Everything here is arrays of numbers, about 100 bytes a pair at the peak: texts stay where they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restill import keys as hashing
from restill.keys import Keys

TRAIN, VALIDATION, TEST = range(3)  # places in pairs.SPLITS
UNDECIDED = -1

# A group is a giant from this share of the batch and this many pairs on: as a whole it could outweigh a split.
GIANT_SHARE = 0.05
GIANT_PAIRS = 1_000

Splits = NDArray[np.int8]


@dataclass(frozen=True)
class Known:
    """Where sentences of the data set already belong; one row a sentence, by ascending key."""

    keys: Keys
    splits: Splits
    groups: Keys

    @classmethod
    def nothing(cls) -> "Known":
        """Return what is known when there is no data set."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.int8), np.empty(0, np.uint64))


@dataclass(frozen=True)
class Assigned:
    """Where the pairs of a batch go."""

    splits: Splits  # [pairs], UNDECIDED: the two sentences belong to different splits
    groups: Keys  # [pairs], 0 where undecided
    known: Known  # sentences of the batch that the data set has
    largest_group: int  # pairs
    giant: NDArray[np.bool_]  # [pairs], in a group that was divided because it is a giant


def assign(
    key_a: Keys,
    key_b: Keys,
    lookup: Callable[[Keys], Known],
    *,
    test_share: float,
    validation_share: float,
    asked: Splits | None = None,
    freeze_test: bool = False,
) -> Assigned:
    """Give each pair of a batch its split and its group.

    Args:
        key_a: key of each pair's first sentence, ``[pairs]``.
        key_b: and of its second.
        lookup: says of ascending keys which the data set has, and where they belong.
        test_share: share of groups that go to test.
        validation_share: share of groups that go to validation.
        asked: the split that each pair must have whatever its sentences; UNDECIDED: it has no wish.
        freeze_test: draw no group into test; a pair with a sentence of the test split still comes out as test.
    """
    if not len(key_a):
        return Assigned(np.empty(0, np.int8), np.empty(0, np.uint64), Known.nothing(), 0, np.empty(0, np.bool_))

    def drawn(keys: Keys) -> Splits:
        share = hashing.shares(keys)
        to_test = TRAIN if freeze_test else TEST
        split = np.where(share < test_share + validation_share, VALIDATION, TRAIN)
        return np.where(share < test_share, to_test, split).astype(np.int8)

    graph = _Graph.of(key_a, key_b)
    known = lookup(graph.keys)
    place = np.full(len(graph.keys), UNDECIDED, np.int8)  # where each sentence belongs already
    place[np.searchsorted(graph.keys, known.keys)] = known.splits
    if asked is not None:  # what a pair asks for binds its sentences; the test split counts most
        for side in (graph.a, graph.b):
            np.maximum.at(place, side, asked)
    bound = np.flatnonzero(place != UNDECIDED)
    split_of_group = drawn(graph.keys[graph.smallest])
    lowest = np.full(graph.groups, TEST + 1, np.int8)
    highest = np.full(graph.groups, UNDECIDED, np.int8)
    np.minimum.at(lowest, graph.group_of_key[bound], place[bound])
    np.maximum.at(highest, graph.group_of_key[bound], place[bound])
    touched = highest != UNDECIDED
    split_of_group[touched] = np.where(lowest == highest, lowest, UNDECIDED)[touched]
    giant = graph.pairs_in_group > max(GIANT_PAIRS, GIANT_SHARE * len(key_a))
    split_of_group[giant] = UNDECIDED

    split_of_key = split_of_group[graph.group_of_key]
    undecided = split_of_key == UNDECIDED
    split_of_key[undecided] = np.where(place[undecided] != UNDECIDED, place[undecided], drawn(graph.keys[undecided]))
    splits = split_of_key[graph.a]
    splits[splits != split_of_key[graph.b]] = UNDECIDED
    if asked is not None:
        splits = np.where(asked == UNDECIDED, splits, asked)
    return Assigned(
        splits,
        _groups(graph, key_a, key_b, splits != UNDECIDED, known),
        known,
        largest_group=int(graph.pairs_in_group.max()),
        giant=giant[graph.group_of_key[graph.a]],
    )


def leaked_keys(key_a: Keys, key_b: Keys, splits: Splits, known: Known) -> Keys:
    """Return the sentences of the batch that are in more than one split, those of the data set counted in.

    Measured from what was assigned, not from how, so that a fault in `assign` shows: none unless splits were asked for.
    """
    keys = np.concatenate([key_a, key_b, known.keys])
    if not len(keys):
        return keys
    split = np.concatenate([splits, splits, known.splits])
    order = np.argsort(keys)
    keys, split = keys[order], split[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    differs = np.minimum.reduceat(split, starts) != np.maximum.reduceat(split, starts)
    leaked: Keys = keys[starts[differs]]
    return leaked


def _groups(graph: "_Graph", key_a: Keys, key_b: Keys, kept: NDArray[np.bool_], known: Known) -> Keys:
    """Return the group of each kept pair: an old one where it holds a known sentence, else its smallest key."""
    groups = np.zeros(len(key_a), np.uint64)
    if not kept.any():
        return groups
    if not kept.all():  # a group may have fallen apart
        graph = _Graph.of(key_a[kept], key_b[kept])
    names = graph.keys[graph.smallest]
    at = np.searchsorted(graph.keys, known.keys)
    there = at < len(graph.keys)
    there[there] = graph.keys[at[there]] == known.keys[there]
    # Assigned from the last to the first, so the smallest known key decides.
    names[graph.group_of_key[at[there]][::-1]] = known.groups[there][::-1]
    groups[kept] = names[graph.group_of_key[graph.a]]
    return groups


@dataclass(frozen=True)
class _Graph:
    """Sentences as nodes, pairs as edges."""

    keys: Keys  # ascending
    a: NDArray[np.int32]  # [pairs], place of the first sentence in `keys`
    b: NDArray[np.int32]
    groups: int
    group_of_key: NDArray[np.int32]  # [keys]
    smallest: NDArray[np.int32]  # [groups], place of the group's smallest key
    pairs_in_group: NDArray[np.int64]  # [groups]

    @classmethod
    def of(cls, key_a: Keys, key_b: Keys) -> "_Graph":
        from scipy.sparse import coo_array  # late: most runs split nothing
        from scipy.sparse.csgraph import connected_components

        keys, places = _ranked(np.concatenate([key_a, key_b]))
        a, b = places[: len(key_a)], places[len(key_a) :]
        edges = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(keys), len(keys)))
        groups, group_of_key = connected_components(edges, directed=False)
        smallest = np.empty(groups, np.int32)
        # Keys ascend; written from the last to the first, so the first of each group stays.
        smallest[group_of_key[::-1]] = np.arange(len(keys) - 1, -1, -1, dtype=np.int32)
        pairs_in_group = np.bincount(group_of_key[a], minlength=groups)
        return cls(keys, a, b, int(groups), group_of_key, smallest, pairs_in_group)


def _ranked(values: Keys) -> tuple[Keys, NDArray[np.int32]]:
    """Return the distinct values, ascending, and the place of each value among them."""
    order = np.argsort(values)
    ascending = values[order]
    is_first = np.r_[True, ascending[1:] != ascending[:-1]]
    places = np.empty(len(values), np.int32)
    places[order] = np.cumsum(is_first, dtype=np.int32) - 1
    return ascending[is_first], places
