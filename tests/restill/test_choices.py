"""What the configuration accepts is what there is, and every choice says what it is."""

from typing import get_args

import pytest

from restill.choices import choices
from restill.settings import learning
from restill.settings.teaching import TeacherKind


@pytest.mark.parametrize(
    ("what", "accepted"),
    [
        ("students", learning.StudentKind),
        ("tokens", learning.TokenKind),
        ("embeddings", learning.EmbeddingSource),
        ("schedules", learning.Schedule),
        ("exports", learning.Export),
        ("teachers", TeacherKind),
    ],
)
def test_settings_and_code_name_the_same_choices(what, accepted):
    _, found = choices(what)
    assert set(found) == set(get_args(accepted))
    assert all(summary for summary in found.values())


def test_settings_and_code_name_the_same_losses():
    _, found = choices("losses")
    assert set(found) == {*get_args(learning.HardLoss), *get_args(learning.SoftLoss)}
