import numpy as np
import pytest
import tensorflow as tf

from restill import students
from restill.settings import StudentSettings
from restill.students.pruning import Pruner

SETTINGS = StudentSettings(kind="siamese-lstm", embedding_size=16, hidden_size=16, max_tokens=8)


@pytest.fixture
def encoder():
    return students.build(100, SETTINGS)


def _matrices(model):
    return [weight for weight in model.trainable_variables if len(weight.shape) > 1]


def _zeros(weight):
    return float((weight.numpy() == 0).mean())


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 0.7), (1.0, 0.8), (2.0, 0.8)])
def test_sparsity_follows_the_cubic_schedule(encoder, share, expected):
    """0.8·(1 - (1 - 1/2)³) = 0.7."""
    pruner = Pruner(encoder, 0.8)
    assert pruner.update(share) == pytest.approx(expected)
    pruner.apply()
    for weight in _matrices(encoder):
        assert _zeros(weight) == pytest.approx(expected, abs=0.001)


def test_the_smallest_weights_go(encoder):
    table = encoder.get_layer("tokens").embeddings
    before = np.abs(table.numpy())
    pruner = Pruner(encoder, 0.5)
    pruner.update(1.0)
    pruner.apply()
    gone = table.numpy() == 0
    assert before[gone].max() <= before[~gone].min()


def test_biases_stay(encoder):
    bias = encoder.get_layer("lstm").forward_layer.cell.bias
    before = bias.numpy().copy()
    pruner = Pruner(encoder, 0.9)
    pruner.update(1.0)
    pruner.apply()
    assert np.array_equal(bias.numpy(), before)


def test_a_pruned_weight_stays_pruned_while_training_goes_on(encoder):
    """In a compiled step, too: the masks are variables."""
    pruner = Pruner(encoder, 0.8)
    optimizer = tf.keras.optimizers.Adam(0.1)
    optimizer.build(encoder.trainable_variables)
    ids = tf.constant(np.random.default_rng(0).integers(1, 100, (4, 8)).astype(np.int32))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            vectors = encoder(ids, training=True)
            loss = tf.reduce_sum(vectors[:-1] * vectors[1:])
        gradients = tape.gradient(loss, encoder.trainable_variables)
        optimizer.apply_gradients(zip(gradients, encoder.trainable_variables, strict=True))
        pruner.apply()

    gone = [np.zeros(weight.shape, bool) for weight in _matrices(encoder)]
    for share in (0.2, 0.5, 1.0):
        pruner.update(share)
        step()
        now = [weight.numpy() == 0 for weight in _matrices(encoder)]
        assert all((after | ~before).all() for before, after in zip(gone, now, strict=True))
        gone = now
    assert np.mean([zeros.mean() for zeros in gone]) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.1])
def test_a_share_out_of_range_is_refused(encoder, sparsity):
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        Pruner(encoder, sparsity)


def test_rows_that_are_not_learned_are_pruned_too():
    """They are exported as the others are, and are most of a table whose teacher has many pieces."""
    learned = np.zeros(100, bool)
    learned[:10] = True
    settings = StudentSettings(kind="static", embedding_size=16, max_tokens=8)
    table = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
    encoder = students.build(100, settings, table, None, learned)
    pruner = Pruner(encoder, 0.5)
    pruner.update(1.0)
    pruner.apply()
    assert (encoder.get_layer("tokens").table == 0).mean() == pytest.approx(0.5, abs=0.01)
