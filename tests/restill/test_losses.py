import math

import numpy as np
import pytest
import tensorflow as tf

from restill import losses


def test_kd_matches_a_value_worked_by_hand():
    """Teacher (1/4, 3/4), z = ln 3, against student (1/2, 1/2): 3/4·ln(3/2) + 1/4·ln(1/2) nats."""
    loss = losses.kd(tf.constant([0.0]), tf.constant([math.log(3)]), temperature=1.0)
    assert loss.numpy() == pytest.approx([0.130812], abs=1e-6)


def test_kd_at_temperature_two_softens_both_sides():
    """At T = 2, z = 2·ln 3 softens to ln 3, so the loss is 2² times the value at T = 1."""
    loss = losses.kd(tf.constant([0.0]), tf.constant([2 * math.log(3)]), temperature=2.0)
    assert loss.numpy() == pytest.approx([4 * 0.130812], abs=4e-6)


def test_kd_is_zero_only_where_student_equals_teacher():
    loss = losses.kd(tf.constant([1.5, -3.0]), tf.constant([1.5, 3.0]), temperature=2.0).numpy()
    assert loss[0] == pytest.approx(0.0, abs=1e-6)
    assert loss[1] > 0.1


def test_kd_stays_finite_for_a_teacher_that_is_certain():
    loss = losses.kd(tf.constant([-200.0]), tf.constant([200.0]), temperature=1.0)
    assert np.isfinite(loss.numpy()).all()


def test_kd_refuses_logits_of_different_shapes():
    with pytest.raises(ValueError, match="one shape"):
        losses.kd(tf.zeros([2]), tf.zeros([3]), temperature=1.0)


def test_bce_of_an_even_chance_is_ln_2():
    assert losses.bce(tf.constant([1.0, 0.0]), tf.zeros([2])).numpy() == pytest.approx([math.log(2)] * 2)


def test_contrastive_matches_values_worked_by_hand():
    """Positive at c = 0.5: 0.25/4; negative at 0.5: 0.25; negative at -0.5: free; orthogonal positive: 1/4."""
    loss = losses.contrastive(tf.constant([1.0, 0.0, 0.0, 1.0]), tf.constant([0.5, 0.5, -0.5, 0.0]))
    assert loss.numpy() == pytest.approx([0.0625, 0.25, 0.0, 0.25])


def test_mse_divides_both_scores_by_the_temperature():
    assert losses.mse(tf.constant([0.2]), tf.constant([0.8]), temperature=2.0).numpy() == pytest.approx([0.09])


def test_unlabelled_pairs_cost_their_soft_loss_alone():
    total = losses.joint(tf.constant([4.0, 4.0]), tf.constant([1.0, 1.0]), tf.constant([True, False]), alpha=0.25)
    assert total.numpy() == pytest.approx([0.25 * 1 + 0.75 * 4, 1.0])


@pytest.mark.parametrize("name", ["kd", "mse"])
def test_gradient_agrees_with_central_differences(name):
    """The analytic gradient is the numeric one, so nothing in the loss blocks or bends it."""
    loss = getattr(losses, name)
    teacher = tf.constant([0.3, -0.4, 0.9], tf.float64)
    student = tf.Variable([0.1, 0.5, -0.2], dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(student, teacher, temperature=2.0))
    analytic = tape.gradient(value, student).numpy()
    step = 1e-5
    for index in range(3):
        shift = np.eye(3)[index] * step
        above = tf.reduce_sum(loss(student + shift, teacher, temperature=2.0)).numpy()
        below = tf.reduce_sum(loss(student - shift, teacher, temperature=2.0)).numpy()
        assert analytic[index] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-8)
