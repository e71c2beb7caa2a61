"""Frozen encoders that students are distilled from. Importing this package does not import TensorFlow."""

from restill.teachers.files import Precision, TeacherFiles, fingerprint, open_teacher
from restill.teachers.teacher import Teacher, load_teacher

__all__ = ["Precision", "Teacher", "TeacherFiles", "fingerprint", "load_teacher", "open_teacher"]
