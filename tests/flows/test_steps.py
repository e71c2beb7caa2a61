"""What a step repeats: what the world refused, never what somebody refused. And what does not stop it."""

import asyncio
import logging

import httpx
import pytest
from prefect import flow
from prefect.states import Completed, Failed

from restill.errors import AccessDenied, RegistryConflict, StorageUnreachable
from tasks import progress
from tasks.step import storage_failed


@pytest.mark.parametrize(
    ("error", "again"),
    [(StorageUnreachable("gone"), True), (AccessDenied("no"), False), (RegistryConflict("late"), False)],
)
def test_a_step_is_repeated_when_the_store_was_gone_and_not_when_it_refused(error, again):
    assert asyncio.run(storage_failed(None, None, Failed(data=error))) is again


def test_a_step_that_succeeded_is_not_repeated():
    assert asyncio.run(storage_failed(None, None, Completed(data=1))) is False


def test_work_goes_on_when_the_server_cannot_be_told_how_far_it_is(prefect_server, monkeypatch, caplog):
    def unreachable(*_, **__):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(progress, "update_progress_artifact", unreachable)
    monkeypatch.setattr(progress, "_ARTIFACT_SECONDS", 0.0)

    @flow
    def working() -> int:
        with progress.reporting("some-work", "working") as report:
            report(1, 2, "half")
            report(2, 2, "all")
        return 2

    with caplog.at_level(logging.WARNING):
        assert working() == 2
    assert "Progress could not be shown: connection refused" in caplog.text
