import numpy as np

from restill.corpus import mining
from restill.corpus.mining import Mined


def mine(*arguments, **named) -> Mined:
    """All blocks' pairs together."""
    blocks = list(mining.mine(*arguments, **named))
    return Mined(
        *(
            np.concatenate([np.empty(0), *(getattr(block, name) for block in blocks)]).astype(kind)
            for name, kind in (("a", int), ("b", int), ("scores", float))
        )
    )


def vectors(groups, size=5, dimension=16, seed=0):
    """Unit vectors in tight groups: the nearest of each are its own group."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(groups, dimension))
    made = np.repeat(centres, size, axis=0) + 0.05 * generator.normal(size=(groups * size, dimension)) + 2.0
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def test_neighbours_are_those_most_alike_although_all_vectors_lie_in_one_cone():
    stored = vectors(20)
    mined = mine(stored, np.arange(100), np.arange(100), neighbours=4, seed=0)
    assert (mined.a // 5 == mined.b // 5).all()
    assert len(mined.scores) == 20 * 10  # each pair of a group of five, once
    np.testing.assert_allclose(mined.scores, (stored[mined.a] * stored[mined.b]).sum(axis=1), atol=1e-5)


def test_only_the_named_sentences_are_paired_and_none_with_itself():
    stored = vectors(20)
    rows = np.random.default_rng(1).permutation(100)
    chosen = np.arange(0, 100, 2)
    mined = mine(stored, rows, chosen, neighbours=3, seed=0)
    assert set(mined.a) | set(mined.b) <= set(chosen)
    assert (mined.a < mined.b).all()


def test_blocks_keep_the_work_linear_and_find_neighbours_inside_them():
    stored = vectors(40)
    mined = mine(stored, np.arange(200), np.arange(200), neighbours=2, seed=3, block=50)
    assert set(mined.a) | set(mined.b) == set(range(200))
    again = mine(stored, np.arange(200), np.arange(200), neighbours=2, seed=3, block=50)
    assert (again.a == mined.a).all()
    assert (again.b == mined.b).all()


def test_a_sentence_alone_has_no_neighbour():
    assert len(mine(vectors(1), np.arange(5), np.array([2]), neighbours=3, seed=0).scores) == 0


def test_blocks_come_one_by_one_and_share_no_pair():
    stored = vectors(40)
    found = [
        set(zip(block.a, block.b, strict=True))
        for block in mining.mine(stored, np.arange(200), np.arange(200), neighbours=4, seed=3, block=50)
    ]
    assert len(found) == 4
    assert len(set.union(*found)) == sum(map(len, found)) > 0
