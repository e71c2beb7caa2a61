"""Frozen encoders that students are distilled from. Importing this package does not import TensorFlow."""

from restill.teachers.files import TeacherFiles, fingerprint, open_teacher
from restill.teachers.teacher import Item, Teacher, load_teacher

__all__ = ["Item", "Teacher", "TeacherFiles", "fingerprint", "load_teacher", "open_teacher"]
