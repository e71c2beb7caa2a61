"""Which split a pair belongs to: decided by its sentences, so that no sentence is ever in two splits.

Pairs that share a sentence, directly or over others, form a group; a group goes to one split as a whole, by a stable
hash, so adding a batch never moves an old pair and the order of rows does not matter. A group that cannot go as a
whole (it touches sentences of several splits, or it is a giant) is decided sentence by sentence, and the pairs whose
two sides then disagree are kept out.
"""

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from restill.pairs import JOINS_TWO_SPLITS, SPLITS

TRAIN, VALIDATION, TEST = range(3)  # places in SPLITS
UNDECIDED = -1

# A group is a giant from this share of the batch and this many pairs on: as a whole it could outweigh a split.
GIANT_SHARE = 0.05
GIANT_PAIRS = 1_000


@dataclass(frozen=True)
class Membership:
    """Where a sentence of the data set already belongs."""

    split: str
    group: str


@dataclass(frozen=True)
class Assigned:
    """The pairs of a batch with their splits."""

    accepted: pl.DataFrame  # with `group` and `split`
    disagreeing: pl.DataFrame  # as they came in, with `reason`: pairs whose two sentences belong to different splits


def sentence_key(sentence: str) -> str:
    """Return 16 hex digits that are the same for spellings of one sentence: NFKC, case-folded, one space."""
    if not sentence.isascii():
        # Case folding can undo the normal form, so it is made again.
        sentence = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", sentence).casefold())
    return hashlib.sha256(" ".join(sentence.lower().split()).encode()).hexdigest()[:16]


def sentence_keys(sentences: pl.Series) -> pl.Series:
    """Return the key of each sentence; repeated ones are hashed once."""
    distinct = sentences.unique()
    keys = pl.Series([sentence_key(sentence) for sentence in distinct], dtype=pl.String)
    return sentences.replace_strict(distinct, keys, return_dtype=pl.String) if len(distinct) else keys


def assign(
    pairs: pl.DataFrame, known: Mapping[str, Membership], *, test_share: float, validation_share: float
) -> Assigned:
    """Give each pair of a batch its split and its group.

    Args:
        pairs: with `key_a` and `key_b`, the keys of its sentences.
        known: where sentences of the stored data set belong, by key; sentences of other batches may be left out.
        test_share: share of groups that go to test.
        validation_share: share of groups that go to validation.
    """
    if pairs.is_empty():
        empty = pl.lit(None, pl.String)
        return Assigned(
            pairs.with_columns(empty.alias("group"), empty.alias("split")), pairs.with_columns(empty.alias("reason"))
        )

    def drawn(key: str) -> int:
        share = int.from_bytes(hashlib.sha256(f"split:{key}".encode()).digest()[:8]) / 2**64
        return TEST if share < test_share else VALIDATION if share < test_share + validation_share else TRAIN

    graph = _Graph.of(pairs)
    split_of_group = np.fromiter(map(drawn, graph.smallest_key), np.int8, graph.groups)
    touched: dict[int, set[int]] = {}
    for place, key in enumerate(graph.keys if known else ()):
        if key in known:
            touched.setdefault(int(graph.group_of_key[place]), set()).add(SPLITS.index(known[key].split))
    for group, found in touched.items():
        split_of_group[group] = found.pop() if len(found) == 1 else UNDECIDED
    split_of_group[graph.pairs_in_group > max(GIANT_PAIRS, GIANT_SHARE * pairs.height)] = UNDECIDED
    split_of_key = split_of_group[graph.group_of_key]
    for place in np.flatnonzero(split_of_key == UNDECIDED).tolist():
        key = graph.keys[place]
        split_of_key[place] = SPLITS.index(known[key].split) if key in known else drawn(key)
    agreed = split_of_key[graph.a] == split_of_key[graph.b]
    names = pl.Series(np.array(SPLITS)[split_of_key[graph.a][agreed]], dtype=pl.String)
    accepted = pairs.filter(agreed).with_columns(split=names)
    disagreeing = pairs.filter(~agreed).with_columns(reason=pl.lit(JOINS_TWO_SPLITS))
    return Assigned(accepted.with_columns(group=_groups(accepted, known)), disagreeing)


def leaked_sentences(pairs: pl.DataFrame, known: Mapping[str, Membership]) -> int:
    """Return how many sentences of the batch are in more than one split, those of the data set counted in: 0, always.

    Measured from what was assigned, not from how, so that a fault above shows.
    """
    here = pl.concat([pairs.select("split", key=name) for name in ("key_a", "key_b")])
    before = pl.DataFrame(
        {"split": [member.split for member in known.values()], "key": list(known)},
        schema={"split": pl.String, "key": pl.String},
    )
    splits = pl.concat([here, before]).group_by("key").agg(pl.col("split").n_unique())
    return splits.filter(pl.col("split") > 1).height


def _groups(accepted: pl.DataFrame, known: Mapping[str, Membership]) -> pl.Series:
    """Return the group of each accepted pair: an old one where it holds a known sentence, else its smallest key."""
    if accepted.is_empty():
        return pl.Series([], dtype=pl.String)
    graph = _Graph.of(accepted)
    names = list(graph.smallest_key)
    named: set[int] = set()
    for place, key in enumerate(graph.keys if known else ()):  # ascending: the smallest known key decides
        group = int(graph.group_of_key[place])
        if key in known and group not in named:
            names[group] = known[key].group
            named.add(group)
    return pl.Series(np.array(names)[graph.group_of_key[graph.a]], dtype=pl.String)


@dataclass(frozen=True)
class _Graph:
    """Sentences as nodes, pairs as edges."""

    keys: list[str]  # ascending
    a: NDArray[np.int64]  # [pairs], index of the first sentence
    b: NDArray[np.int64]
    groups: int
    group_of_key: NDArray[np.int32]  # [keys]
    smallest_key: list[str]  # [groups]
    pairs_in_group: NDArray[np.int64]  # [groups]

    @classmethod
    def of(cls, pairs: pl.DataFrame) -> "_Graph":
        both = pl.concat([pairs["key_a"], pairs["key_b"]])
        keys = both.unique().sort().to_list()
        places = both.rank("dense").to_numpy().astype(np.int64) - 1
        a, b = places[: pairs.height], places[pairs.height :]
        edges = coo_array((np.ones(pairs.height, np.bool_), (a, b)), shape=(len(keys), len(keys)))
        groups, group_of_key = connected_components(edges, directed=False)
        # Keys ascend, so the first of each group is its smallest.
        first = np.unique(group_of_key, return_index=True)[1]
        return cls(
            keys=keys,
            a=a,
            b=b,
            groups=int(groups),
            group_of_key=group_of_key,
            smallest_key=[keys[place] for place in first],
            pairs_in_group=np.bincount(group_of_key[a], minlength=groups),
        )
