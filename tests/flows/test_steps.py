"""What a step repeats: what the world refused, never what somebody refused."""

import asyncio

import pytest
from prefect.states import Completed, Failed

from restill.errors import AccessDenied, RegistryConflict, StorageUnreachable
from tasks.step import storage_failed


@pytest.mark.parametrize(
    ("error", "again"),
    [(StorageUnreachable("gone"), True), (AccessDenied("no"), False), (RegistryConflict("late"), False)],
)
def test_a_step_is_repeated_when_the_store_was_gone_and_not_when_it_refused(error, again):
    assert asyncio.run(storage_failed(None, None, Failed(data=error))) is again


def test_a_step_that_succeeded_is_not_repeated():
    assert asyncio.run(storage_failed(None, None, Completed(data=1))) is False
