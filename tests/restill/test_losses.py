import math
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from restill import losses
from restill.settings.learning import HardLoss, SoftLoss

# Two pairs whose four sentences are a₁, a₂, b₁, b₂ in that order.
TEACHER = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 1.0]]
STUDENT = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]]


def _batch(**fields):
    plain = {
        "labels": tf.constant([1.0, 0.0]),
        "labelled": tf.constant([True, False]),
        "student_cosines": tf.constant([0.5, 0.1]),
        "student_logits": tf.constant([1.0, -1.0]),
        "teacher_scores": tf.constant([0.9, 0.2]),
        "teacher_logits": tf.constant([2.0, -2.0]),
        "student_vectors": tf.constant(STUDENT),
        "teacher_vectors": tf.constant(TEACHER),
        "projected": tf.constant([[2.0, 0.0], [1.0, 0.0], [3.0, 4.0], [0.0, 5.0]]),
    }
    return losses.Batch(**(plain | fields))


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


def test_kd_of_a_certain_teacher_is_the_students_surprise():
    """KL of a certain teacher is -ln of what the student gave the class: 200 nats, with a gradient of 1 per logit."""
    student = tf.Variable([-200.0, 200.0])
    with tf.GradientTape() as tape:
        loss = losses.kd(student, tf.constant([200.0, -200.0]), temperature=1.0)
    assert loss.numpy() == pytest.approx([200.0, 200.0])
    assert tape.gradient(loss, student).numpy() == pytest.approx([-1.0, 1.0])


def test_kd_refuses_logits_of_different_shapes():
    with pytest.raises(ValueError, match="one shape"):
        losses.kd(tf.zeros([2]), tf.zeros([3]), temperature=1.0)


def test_bce_of_an_even_chance_is_ln_2():
    assert losses.bce(tf.constant([1.0, 0.0]), tf.zeros([2])).numpy() == pytest.approx([math.log(2)] * 2)


def test_bce_of_a_graded_label_at_extreme_logits():
    """Label 3/4 at z = 1000 costs 1/4·1000; a label of 1 there costs nothing."""
    loss = losses.bce(tf.constant([0.75, 1.0, 1.0]), tf.constant([1000.0, 1000.0, -1000.0]))
    assert loss.numpy() == pytest.approx([250.0, 0.0, 1000.0])


def test_contrastive_matches_values_worked_by_hand():
    """Positive at c = 0.5: 0.25/4; negative at 0.5: 0.25; negative at -0.5: free; orthogonal positive: 1/4."""
    loss = losses.contrastive(tf.constant([1.0, 0.0, 0.0, 1.0]), tf.constant([0.5, 0.5, -0.5, 0.0]))
    assert loss.numpy() == pytest.approx([0.0625, 0.25, 0.0, 0.25])


def test_contrastive_lets_negatives_up_to_the_margin_go_free():
    loss = losses.contrastive(tf.zeros([3]), tf.constant([0.2, 0.3, 0.4]), margin=0.3)
    assert loss.numpy() == pytest.approx([0.0, 0.0, 0.16])


def test_contrastive_as_published_frees_the_most_similar_negatives():
    """With [c < 0.3] a negative at 0.2 costs 0.04 and one at 0.9 nothing; positives are as in the corrected loss."""
    loss = losses.contrastive_published(tf.constant([0.0, 0.0, 1.0]), tf.constant([0.2, 0.9, 0.5]), margin=0.3)
    assert loss.numpy() == pytest.approx([0.04, 0.0, 0.0625])


def test_mse_divides_both_scores_by_the_temperature():
    assert losses.mse(tf.constant([0.2]), tf.constant([0.8]), temperature=2.0).numpy() == pytest.approx([0.09])


def test_listwise_matches_values_worked_by_hand():
    """Teacher (3/4, 1/4), student (1/2, 1/2): 2·(3/4·ln(3/2) - 3/4 + 1/2) and 2·(1/4·ln(1/2) - 1/4 + 1/2).

    Their mean is 3/4·ln(3/2) + 1/4·ln(1/2), the KL of the batch.
    """
    loss = losses.listwise(tf.zeros([2]), tf.constant([math.log(3), 0.0]), temperature=1.0).numpy()
    assert loss == pytest.approx([0.108198, 0.153426], abs=1e-6)
    assert loss.mean() == pytest.approx(0.130812, abs=1e-6)


def test_listwise_times_temperature_squared():
    """At T = 1/2, scores of ln 3 / 2 are ln 3 again, so every value is a quarter of that at T = 1."""
    loss = losses.listwise(tf.zeros([2]), tf.constant([math.log(3) / 2, 0.0]), temperature=0.5).numpy()
    assert loss == pytest.approx([0.108198 / 4, 0.153426 / 4], abs=1e-6)


def test_listwise_does_not_vanish_as_the_batch_grows():
    """Half the variance of the difference: 0.01/2 for differences of ±0.1, in a batch of 2 as in one of 2,000."""
    for pairs in (2, 2000):
        teacher = np.tile([0.1, -0.1], pairs // 2).astype(np.float32)
        loss = losses.listwise(tf.zeros([pairs]), tf.constant(teacher), temperature=2.0).numpy()
        assert loss.mean() == pytest.approx(0.005, rel=0.01)
        assert (loss >= 0).all()


def test_listwise_ignores_a_shift_of_all_cosines():
    loss = losses.listwise(tf.constant([0.3, 0.5]), tf.constant([0.0, 0.2]), temperature=1.0)
    assert loss.numpy() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_listwise_of_one_pair_is_zero_with_a_finite_gradient():
    student = tf.Variable([0.3])
    with tf.GradientTape() as tape:
        loss = losses.listwise(student, tf.constant([0.9]), temperature=0.05)
    assert loss.numpy() == pytest.approx([0.0])
    assert tape.gradient(loss, student).numpy() == pytest.approx([0.0])


def test_listwise_stays_finite_where_the_student_is_certain_and_wrong():
    student = tf.Variable([1.0, -1.0])
    with tf.GradientTape() as tape:
        loss = losses.listwise(student, tf.constant([-1.0, 1.0]), temperature=0.001)
    gradient = tape.gradient(loss, student).numpy()
    assert np.isfinite(loss.numpy()).all()
    assert gradient[0] > 0 > gradient[1]  # MSE between the two softmaxes would give 0 here


def test_embedding_matches_values_worked_by_hand():
    """Pair 1: (1, 0)·(1, 0) and (0.6, 0.8)·(0.6, 0.8) cost 0; pair 2: orthogonal 1 and equal 0, mean 1/2."""
    batch = _batch()
    assert losses.embedding(batch.projected, batch.teacher_vectors).numpy() == pytest.approx([0.0, 0.5], abs=1e-6)


def test_embedding_of_opposite_vectors_is_two():
    loss = losses.embedding(tf.constant([[-3.0, 0.0], [0.0, -1.0]]), tf.constant([[1.0, 0.0], [0.0, 1.0]]))
    assert loss.numpy() == pytest.approx([2.0])


def test_embedding_refuses_vectors_of_different_widths():
    with pytest.raises(ValueError, match="one shape"):
        losses.embedding(tf.zeros([2, 3]), tf.zeros([2, 4]))


def test_similarity_matrix_matches_values_worked_by_hand():
    """Sentences a₁ a₂ b₁ b₂; teacher cosines: a₁b₁ 0.6, a₂b₁ 0.8, a₂b₂ 1, b₁b₂ 0.8; student: a₁b₁ 1, else 0.

    Squared differences: a₁b₁ 0.16, a₂b₁ 0.64, a₂b₂ 1, b₁b₂ 0.64. Row means over three others: a₁ 0.16/3,
    a₂ 1.64/3, b₁ 1.44/3, b₂ 1.64/3. Pair 1 = (a₁ + b₁)/2 = 1.6/6; pair 2 = (a₂ + b₂)/2 = 3.28/6.
    """
    loss = losses.similarity_matrix(tf.constant(STUDENT), tf.constant(TEACHER))
    assert loss.numpy() == pytest.approx([1.6 / 6, 3.28 / 6], abs=1e-6)


def test_similarity_matrix_of_one_pair_is_the_squared_difference_of_its_cosines():
    student = tf.constant([[1.0, 0.0], [0.6, 0.8]])
    teacher = tf.constant([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0]])
    assert losses.similarity_matrix(student, teacher).numpy() == pytest.approx([0.04], abs=1e-6)


@pytest.mark.parametrize("name", ["embedding", "similarity_matrix"])
def test_zero_vectors_have_cosine_zero_and_a_finite_gradient(name):
    student = tf.Variable([[0.0, 0.0], [0.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = getattr(losses, name)(student, tf.constant([[1.0, 0.0], [0.6, 0.8]]))
    # embedding: 1 - 0 on both sides; similarity matrix: (0 - 0.6)².
    assert loss.numpy() == pytest.approx([1.0 if name == "embedding" else 0.36], abs=1e-6)
    assert (tape.gradient(loss, student).numpy() == 0).all()


def test_unlabelled_pairs_cost_their_soft_loss_alone():
    total = losses.total(tf.constant([4.0, 4.0]), tf.constant([1.0, 1.0]), tf.constant([True, False]), alpha=0.25)
    assert total.numpy() == pytest.approx([0.25 * 1 + 0.75 * 4, 1.0])


def test_every_name_of_the_settings_has_a_loss_and_a_summary():
    assert set(losses.HARD) == set(get_args(HardLoss))
    assert set(losses.SOFT) == set(get_args(SoftLoss))
    for name, loss in {**losses.HARD, **losses.SOFT}.items():
        assert loss.name == name
        assert loss.summary
        assert "\n" not in loss.summary


@pytest.mark.parametrize("name", get_args(HardLoss))
def test_a_hard_loss_is_called_by_name(name):
    assert losses.HARD[name].compute(_batch(), 0.0).shape == [2]


@pytest.mark.parametrize("name", get_args(SoftLoss))
def test_a_soft_loss_is_called_by_name_in_a_graph_of_any_batch_size(name):
    """In a tf.function whose batch dimension is unknown, as the trainer calls it."""

    @tf.function(input_signature=[tf.TensorSpec([None]), tf.TensorSpec([None, 2])])
    def compute(cosines, vectors):
        return losses.SOFT[name].compute(
            _batch(
                student_cosines=cosines,
                student_logits=cosines,
                teacher_scores=cosines,
                teacher_logits=cosines,
                student_vectors=vectors,
                teacher_vectors=vectors,
                projected=vectors,
            ),
            2.0,
        )

    # A student that equals its teacher costs nothing, whatever the loss.
    assert compute(tf.constant([0.1, 0.9]), tf.constant(TEACHER)).numpy() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_soft_losses_add_up_by_weight():
    batch = _batch()
    both = losses.weighted(batch, {"mse": 0.5, "embedding": 2.0}, temperature=1.0)
    # mse: (0.9 - 0.5)² and (0.2 - 0.1)²; embedding: 0 and 0.5.
    assert both.numpy() == pytest.approx([0.5 * 0.16 + 2 * 0.0, 0.5 * 0.01 + 2 * 0.5], abs=1e-6)


def test_no_soft_loss_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        losses.weighted(_batch(), {}, temperature=1.0)


@pytest.mark.parametrize("name", ["embedding", "similarity-matrix"])
def test_a_loss_on_vectors_says_when_there_are_none(name):
    assert losses.SOFT[name].needs_vectors
    with pytest.raises(ValueError, match="teacher_vectors"):
        losses.SOFT[name].compute(_batch(teacher_vectors=None), 1.0)


def _check_gradient(loss, start):
    """Hold the analytic gradient of the sum to central differences, in float64."""
    student = tf.Variable(start, dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(student))
    analytic = tape.gradient(value, student).numpy().ravel()
    step = 1e-5
    for index in range(analytic.size):
        shift = np.eye(analytic.size)[index].reshape(student.shape) * step
        above, below = (tf.reduce_sum(loss(student + sign * shift)).numpy() for sign in (1, -1))
        assert analytic[index] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("temperature", [0.1, 2.0])
@pytest.mark.parametrize("name", ["kd", "mse", "listwise"])
def test_gradient_of_losses_on_scores_agrees_with_central_differences(name, temperature):
    """The analytic gradient is the numeric one, so nothing in the loss blocks or bends it."""
    teacher = tf.constant([0.3, -0.4, 0.9], tf.float64)
    loss = getattr(losses, name)
    _check_gradient(lambda student: loss(student, teacher, temperature=temperature), [0.1, 0.5, -0.2])


@pytest.mark.parametrize("name", ["bce", "contrastive", "contrastive_published"])
def test_gradient_of_hard_losses_agrees_with_central_differences(name):
    labels = tf.constant([1.0, 0.0, 0.25, 0.0], tf.float64)
    _check_gradient(lambda student: getattr(losses, name)(labels, student), [0.1, 0.5, -0.2, -0.7])


@pytest.mark.parametrize("name", ["embedding", "similarity_matrix"])
def test_gradient_of_losses_on_vectors_agrees_with_central_differences(name):
    start, teacher = np.random.default_rng(3).normal(size=(2, 6, 3))
    _check_gradient(lambda student: getattr(losses, name)(student, tf.constant(teacher)), start)
