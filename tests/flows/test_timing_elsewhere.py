"""Latency measured by a worker of a Prefect pool, which is a real process with a folder of its own."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from factories import write_student
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from registered import lineage

from flows.registration import register
from restill import evaluation, storage
from restill.errors import ConfigurationError, MeasurementFailed
from restill.evaluation import Candidate
from restill.manifests import Calibration
from restill.measurements.latency import orders
from restill.measurements.rows import Rows
from restill.registry import Registry
from restill.settings import load_settings
from tasks.timing import timer

pytestmark = pytest.mark.timeout(600)  # a busy machine starts a dozen processes slowly

ROWS = Rows(
    pair_ids=["p1", "p2"],
    text_a=["a b c d", "c d"],
    text_b=["b c d e", "h g f"],
    grades=np.array([1.0, 0.0]),
    clusters=np.array(["1", "2"]),
    slices={},
    unlabelled={},
)


@pytest.fixture(scope="module")
def settings(project, prefect_server):
    loaded = load_settings()
    return loaded.model_copy(update={"latency": loaded.latency.model_copy(update={"on": "pool"})})


@pytest.fixture(scope="module")
def registry(settings):
    return Registry(storage.connect(settings.storage, settings.state_dir), settings.registry.model)


@pytest.fixture(scope="module")
def candidates(registry, settings, tmp_path_factory):
    """A large challenger and a small champion, both registered."""
    made = []
    for size in (128, 8):
        folder = tmp_path_factory.mktemp(f"size-{size}")
        manifest = registry.register(
            folder,
            files=write_student(folder, size=size),
            artifact_role="litert",
            signature={},
            calibration=Calibration(scale=8, bias=0.5, threshold=0.5),
            lineage=lineage(),
            training={},
        )
        made.append(Candidate(manifest, folder))
    return made


@pytest.fixture
def undeployed(prefect_server):
    """Take away what other modules may have registered on the session's server."""
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_deployment(client.read_deployment_by_name("time-artifacts/latency").id)


@pytest.fixture(scope="module")
def deployment(prefect_server):
    """Register the deployments and make their pools; no worker runs yet."""
    register()


@pytest.fixture
def worker(project, deployment, tmp_path):
    """Start a worker of the pool, in a folder that has neither data nor configuration."""
    bin_folder = Path(sys.executable).parent
    command = [bin_folder / "prefect", "worker", "start", "--pool", "latency", "--type", "process", "--limit", "1"]
    environment = {
        **os.environ,
        **project.environment,
        "RESTILL_ROOT": str(tmp_path),
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_PREFETCH_SECONDS": "1",
    }
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield tmp_path
    finally:
        for process in psutil.Process(started.pid).children(recursive=True) if started.poll() is None else []:
            process.kill()
        started.kill()
        started.wait()


def last_run():
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)[0]


def left(registry):
    return [found.key for found in registry.store.list(orders.ROOT)]


@pytest.mark.usefixtures("undeployed")
def test_without_a_deployment_or_a_server_it_is_said_what_to_do(settings, registry, candidates):
    with pytest.raises(ConfigurationError, match="no deployment time-artifacts/latency") as refusal:
        timer(settings)(*candidates, ROWS, settings)
    assert "docs/latency.md" in refusal.value.hint
    assert left(registry) == []
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(ConfigurationError, match=r"latency\.on"),
    ):
        timer(settings)
    assert timer(load_settings()) is evaluation.time_artifacts


def test_without_a_worker_it_is_given_up_and_cancelled(settings, registry, candidates, deployment):
    impatient = settings.model_copy(update={"latency": settings.latency.model_copy(update={"timeout_seconds": 0.1})})
    with pytest.raises(MeasurementFailed, match=r"not measured on the pool.*(Scheduled|Late) after 0 s"):
        timer(impatient)(*candidates, ROWS, impatient)
    assert left(registry) == []
    assert last_run().state.is_cancelled()


def test_a_worker_of_the_pool_times_what_is_in_the_registry(settings, registry, candidates, worker):
    found, timings = timer(settings)(*candidates, ROWS, settings)
    assert found.p50_ratio.lower > 1.1
    assert found.challenger.requests == timings.champion_ms.size == 700
    assert found.challenger.cold_start_ms > 0
    assert found.control_p50_ratio is not None
    assert left(registry) == []
    run = last_run()
    assert run.name == f"time-{candidates[0].manifest.short}"
    assert run.state.message.startswith("Timed 700 requests an arm on")

    champion = candidates[1].manifest
    digest = next(file.sha256 for file in champion.files if file.path == champion.served_path)
    registry.store.delete(f"registry/{registry.model}/blobs/sha256/{digest}")
    shutil.rmtree(worker / ".restill" / "cache" / "versions")
    with pytest.raises(MeasurementFailed, match=r"not measured on the pool.*is Failed") as failure:
        timer(settings)(candidates[1], None, ROWS, settings)
    assert failure.value.hint
    assert left(registry) == []
