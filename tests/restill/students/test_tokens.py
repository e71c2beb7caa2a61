import numpy as np
import pytest
import tensorflow as tf

from restill.students.tokens import Tokens, frozen_lookup, quantise_rows

TABLE = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
TABLE[7] *= 1000  # one large row must not cost the others their precision
IDS = tf.constant([[1, 7, 29], [3, 0, 0]])


@pytest.mark.parametrize("int8", [False, True])
def test_padding_gives_zeros_whatever_its_row_holds(int8):
    layer = Tokens(TABLE, name="tokens")
    with layer.frozen(int8=int8):
        found = layer(IDS).numpy()
    assert found[0].all()
    assert not found[1, 1:].any()


def test_a_frozen_table_gives_its_rows():
    found = frozen_lookup(TABLE, int8=False)(IDS).numpy()
    assert np.array_equal(found[0], TABLE[[1, 7, 29]])


def test_every_row_has_its_own_scale_in_8_bits():
    found = frozen_lookup(TABLE, int8=True)(IDS).numpy()
    for row, token in enumerate([1, 7, 29]):
        assert np.abs(found[0, row] - TABLE[token]).max() <= 0.51 * np.abs(TABLE[token]).max() / 127 * 1.01


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e4])
def test_rows_of_any_size_stay_finite(value):
    rows, scales = quantise_rows(np.full((2, 4), value, np.float32))
    assert rows.dtype == np.int8
    assert (scales > 0).all()
    assert float(rows[0, 0]) * float(scales[0, 0]) * 2.0**-20 == pytest.approx(value, rel=0.01, abs=1e-6)


def test_only_learned_rows_are_trained_and_all_are_looked_up():
    learned = np.zeros(30, np.bool_)
    learned[[0, 1, 3]] = True
    layer = Tokens(TABLE, learned, name="tokens")
    assert np.array_equal(layer.table, TABLE)
    assert np.array_equal(layer(IDS).numpy()[0], TABLE[[1, 7, 29]])
    assert [tuple(variable.shape) for variable in layer.trainable_variables] == [(3, 8)]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(IDS) ** 2)
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.embeddings)).numpy()
    assert np.abs(gradient[1]).min() > 0  # token 1
    layer.embeddings.assign_add(np.ones((3, 8), np.float32))
    assert np.array_equal(layer.table[~learned], TABLE[~learned])
    assert layer.table[3] == pytest.approx(TABLE[3] + 1)
