"""Hinton's distillation: the student's class probabilities follow the teacher's, both softened."""

import tensorflow as tf


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
    # sigmoid(-z) and not 1 - sigmoid(z): the latter is 0 in float32 from z = 17 on.
    same = tf.sigmoid(teacher) * (tf.math.log_sigmoid(teacher) - tf.math.log_sigmoid(student))
    different = tf.sigmoid(-teacher) * (tf.math.log_sigmoid(-teacher) - tf.math.log_sigmoid(-student))
    return temperature**2 * (same + different)
