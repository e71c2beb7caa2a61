"""Losses that teach a student from labels and from a teacher: pure, one value per pair; the loop reduces.

`c` is the cosine of a pair's two embeddings. The two-class logits of a pair are (0, z), z = (c - bias)·scale,
so a single z stands for both and softmax over them is sigmoid(z).
"""

from collections.abc import Callable

import tensorflow as tf

HardLoss = Callable[..., tf.Tensor]


def bce(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return binary cross-entropy of the two-class logits (0, z), in nats.

    Args:
        labels: float ``[batch]`` in [0, 1]; graded labels are taken as probabilities.
        logits: float ``[batch]``, z before the sigmoid.
    Returns: float ``[batch]``.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)


def contrastive(labels: tf.Tensor, cosines: tf.Tensor, *, margin: float = 0.0) -> tf.Tensor:
    """Return y·(1 - c)²/4 + (1 - y)·c²·[c > margin] for each pair.

    The pull on positives is Neculoiu, Versteegh and Rotaru 2016, eq. (3). For negatives the published text
    has [c < m], which lets the most similar negatives go free; this is the corrected condition.

    Args:
        labels: float ``[batch]`` in [0, 1].
        cosines: float ``[batch]`` in [-1, 1].
        margin: cosine up to which a negative costs nothing.
    Returns: float ``[batch]``, no unit.
    References: https://aclanthology.org/W16-1617
    """
    pull = tf.square(1.0 - cosines) / 4.0
    push = tf.where(cosines > margin, tf.square(cosines), tf.zeros_like(cosines))
    return labels * pull + (1.0 - labels) * push


def kd(student_logits: tf.Tensor, teacher_logits: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Return T² · KL(teacher ‖ student) over the two classes, both softened by temperature T, for each pair.

    T² keeps the gradient on one scale as T changes, so alpha can be tuned apart from T.

    Args:
        student_logits: float ``[batch]``, z of the student.
        teacher_logits: float ``[batch]``, z of the teacher, after its Platt calibration.
        temperature: T > 0, no unit; 1 leaves the logits as they are.
    Returns: float ``[batch]``, nats times T².
    Raises: ValueError if the shapes differ.
    References: Hinton, Vinyals and Dean 2015, §2, https://arxiv.org/abs/1503.02531
    """
    if student_logits.shape.as_list() != teacher_logits.shape.as_list():
        raise ValueError(
            "Student and teacher logits must have one shape, [batch]. "
            f"Received: student {student_logits.shape}, teacher {teacher_logits.shape}."
        )
    teacher = teacher_logits / temperature
    student = student_logits / temperature
    probability = tf.sigmoid(teacher)
    divergence = probability * (tf.math.log_sigmoid(teacher) - tf.math.log_sigmoid(student)) + (1.0 - probability) * (
        tf.math.log_sigmoid(-teacher) - tf.math.log_sigmoid(-student)
    )
    return temperature**2 * divergence


def mse(student_cosines: tf.Tensor, teacher_cosines: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Return (c_T/T - c_S/T)² for each pair: the mean-squared error between scaled scores.

    Args:
        student_cosines: float ``[batch]``.
        teacher_cosines: float ``[batch]``.
        temperature: T > 0, divides both scores.
    Returns: float ``[batch]``, no unit.
    """
    return tf.square((teacher_cosines - student_cosines) / temperature)


def joint(hard: tf.Tensor, soft: tf.Tensor, labelled: tf.Tensor, *, alpha: float) -> tf.Tensor:
    """Return alpha·soft + (1 - alpha)·hard for each pair; an unlabelled pair costs its soft loss alone.

    Args:
        hard: float ``[batch]``; its value at unlabelled pairs is ignored, but must be finite.
        soft: float ``[batch]``.
        labelled: bool ``[batch]``.
        alpha: weight of the soft loss, in [0, 1].
    Returns: float ``[batch]``.
    """
    return tf.where(labelled, alpha * soft + (1.0 - alpha) * hard, soft)
