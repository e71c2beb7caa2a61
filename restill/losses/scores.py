"""Losses on the scores: the student's cosines follow the teacher's, one by one or as a list."""

import tensorflow as tf


def mse(student_cosines: tf.Tensor, teacher_scores: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Return (c_T/T - c_S/T)² for each pair: the mean-squared error between scaled scores.

    Args:
        student_cosines: float ``[batch]``.
        teacher_scores: float ``[batch]``.
        temperature: T > 0, divides both scores.
    Returns: float ``[batch]``, no unit.
    """
    return tf.square((teacher_scores - student_cosines) / temperature)


def listwise(student_cosines: tf.Tensor, teacher_scores: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Return each pair's share of T² · KL(p ‖ q), p = softmax(c_T/T) and q = softmax(c_S/T) over the batch of b pairs.

    Pair i gets T² · b · (p_i·ln(p_i/q_i) - p_i + q_i). The last two terms sum to 0 over the batch and make every
    pair's value at least 0. So the *mean* over the batch is T² · KL(p ‖ q), ListNet's top-one loss less the teacher's
    entropy. Where p and q are flat that is half the variance of c_T - c_S over the batch, whatever b and T are.

    KL and not MSE between p and q, for two reasons: probabilities are about 1/b, so their squared differences vanish
    as 1/b²; and at a low temperature the squared difference has no gradient where the student is certain and wrong,
    while KL's gradient at the logits is q - p.

    A shift of all cosines changes nothing: the loss orders pairs and spaces them, and places none. Something else in
    the sum must, for example the hard loss. A batch of one pair costs 0.

    Args:
        student_cosines: float ``[batch]``.
        teacher_scores: float ``[batch]``.
        temperature: T > 0; the lower, the more the pairs with the highest scores count.
    Returns: float ``[batch]``, nats times T².
    References: Cao, Qin, Liu, Tsai and Li 2007, ListNet, https://doi.org/10.1145/1273496.1273513
    """
    teacher = tf.nn.log_softmax(teacher_scores / temperature)
    student = tf.nn.log_softmax(student_cosines / temperature)
    pairs = tf.cast(tf.size(student_cosines), student_cosines.dtype)
    divergence = tf.exp(teacher) * (teacher - student) - tf.exp(teacher) + tf.exp(student)
    return temperature**2 * pairs * divergence
