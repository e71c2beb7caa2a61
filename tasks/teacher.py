"""plan_scoring, score_here, score_in_pool, score_on_dask, compute_share, collect_scores: the missing teacher scores."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from restill import logits, storage, teachers
from restill.logits import ScoreReport, planning, processes, scoring, supervision, worker
from restill.logits.jobs import ScoringPlan
from restill.logits.planning import Need
from restill.logits.supervision import Workers
from restill.logits.worker import WorkReport
from restill.settings import Settings, load_settings
from restill.snapshots import Snapshot
from restill.teachers.devices import require_gpu
from tasks import deployments
from tasks.progress import Report, reporting, say
from tasks.recording import current
from tasks.step import HOURS, step
from tasks.working import working

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner

_CANCEL_SECONDS = 15.0  # that cancelled runs get to end by themselves; a dead worker's never do
_WORKERS_ELSEWHERE = 2


@step("plan the teacher's work on {snapshot.short}", timeout_seconds=6 * HOURS)
def plan_scoring(snapshot: Snapshot, settings: Settings) -> tuple[Need, ScoringPlan | None]:
    """Put what the snapshot lacks of the teacher's scores into the object store, in shards; None if nothing."""
    scores = logits.open_store(settings, storage.connect(settings.storage, settings.state_dir))
    need = planning.find_need(snapshot, scores)
    if not need.missing:
        return need, None
    plan = planning.make_plan(snapshot, scores, shard_items=settings.teacher.shard_sentences)
    say(f"{need.missing:,} of {need.distinct:,} {need.what} have no score of the teacher yet")
    return need, plan


@step("score with this machine", timeout_seconds=24 * HOURS)
def score_here(plan: ScoringPlan, settings: Settings) -> None:
    """Score a plan with this machine's devices."""
    scores = logits.open_store(settings, storage.connect(settings.storage, settings.state_dir))
    with _scoring(processes.shares(settings)) as report:
        processes.score(plan, scores, settings, progress=report, say=say)


@step("score with the work pool", timeout_seconds=24 * HOURS)
def score_in_pool(plan: ScoringPlan, settings: Settings) -> None:
    """Score a plan with flow runs of a deployment, one a share."""
    deployments.require_server("scoring.on = pool")
    shares = settings.scoring.workers or _WORKERS_ELSEWHERE
    _supervise(plan, settings, _PoolWorkers(plan, settings.scoring.deployment, shares), shares)


@step("score with Dask", timeout_seconds=24 * HOURS)
def score_on_dask(plan: ScoringPlan, settings: Settings) -> None:
    """Score a plan with tasks on a Dask cluster, one a share."""
    deployments.require_server("scoring.on = dask")
    from prefect_dask.task_runners import DaskTaskRunner  # late: slow to import, and needed only here

    shares = settings.scoring.workers or _WORKERS_ELSEWHERE
    if settings.scoring.dask_address is not None:
        runner = DaskTaskRunner(address=settings.scoring.dask_address)
    else:
        threads = str(max(1, (os.cpu_count() or 1) // shares))
        env = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS"), threads)
        kwargs = {
            "n_workers": shares,
            "threads_per_worker": 1,
            "processes": True,
            "dashboard_address": None,
            "env": env,
        }
        runner = DaskTaskRunner(cluster_kwargs=kwargs)
    with runner:
        _supervise(plan, settings, _DaskWorkers(plan, runner, shares), shares)


@step("share {share} of {shares}", timeout_seconds=24 * HOURS)
def compute_share(plan: str, share: int, shares: int, *, on_gpu: bool = False) -> WorkReport:
    """Work on a plan, with the teacher and the object store that are configured on this machine.

    With `on_gpu` only on one, unless the configuration of this machine allows its CPU.
    """
    settings = load_settings()
    if on_gpu and not settings.scoring.allow_cpu:
        require_gpu()
    store = storage.connect(settings.storage, settings.state_dir)
    with reporting(f"share-{share}", f"share {share + 1} of {shares}") as report:
        done = worker.work(
            plan,
            share=share,
            shares=shares,
            store=store,
            load_teacher=lambda: teachers.load_teacher(settings.teacher),
            progress=report,
        )
    say(done.sentence)
    return done


@step("collect the teacher's scores", timeout_seconds=6 * HOURS)
def collect_scores(plan: ScoringPlan | None, need: Need, settings: Settings, *, seconds: float) -> ScoreReport:
    """Make sure that everything planned is stored, and remove its texts from the object store."""
    scores = logits.open_store(settings, storage.connect(settings.storage, settings.state_dir))
    report = scoring.finish(plan, scores, need, seconds=seconds)
    current().scored = report.scored
    say(report.sentence)
    return report


@contextmanager
def _scoring(devices: int) -> Iterator[Report]:
    with working("teacher-scores", "scoring with the teacher", devices=devices) as report:

        def counted(done: int, total: int, what: str) -> None:
            current().scored = done
            report(done, total, what)

        yield counted


def _supervise(plan: ScoringPlan, settings: Settings, workers: Workers, shares: int) -> None:
    scores = logits.open_store(settings, storage.connect(settings.storage, settings.state_dir))
    with _scoring(shares) as report:
        supervision.supervise(
            plan,
            scores,
            workers,
            shares=shares,
            stall_seconds=settings.scoring.stall_seconds,
            progress=report,
            say=say,
        )


class _PoolWorkers:
    """Flow runs of a deployment. What they say of themselves decides nothing but whether another one is started."""

    def __init__(self, plan: ScoringPlan, deployment: str, shares: int) -> None:
        self._plan, self._deployment, self._shares = plan, deployment, shares
        self._runs: dict[int, UUID] = {}
        self._unfinished: set[UUID] = set()

    def start(self, share: int) -> None:
        run = deployments.start(
            self._deployment,
            {"plan": self._plan.key, "share": share, "shares": self._shares},
            f"share-{share + 1}-of-{self._shares}",
            setting="scoring.deployment",
            page="docs/scoring.md",
        )
        self._runs[share] = run
        self._unfinished.add(run)

    def ended(self) -> dict[int, str]:
        found: dict[int, str] = {}
        with get_client(sync_client=True) as client:
            for share, run in self._runs.items():
                try:
                    read = client.read_flow_run(run)
                except ObjectNotFound:
                    found[share] = f"its flow run {run} was deleted"
                    continue
                except httpx.HTTPError:
                    continue  # the server does not answer: the object store still tells what is done
                if read.state is not None and read.state.is_final():
                    found[share] = f"its flow run {read.name} is {read.state.name}: {read.state.message or 'no reason'}"
                    self._unfinished.discard(run)
        return found

    def stop(self) -> None:
        """Cancel those that run or wait: cancelling a flow does not cancel the runs that it asked for."""
        with get_client(sync_client=True) as client:
            self._each(client, lambda run: client.set_flow_run_state(run, Cancelling(message="no longer needed")))
            deadline = time.monotonic() + _CANCEL_SECONDS
            while self._unfinished and time.monotonic() < deadline:
                self.ended()
                time.sleep(0.5)
            gone: State[Any] = Cancelled(message="no longer needed, and its worker did not answer")
            self._each(client, lambda run: client.set_flow_run_state(run, gone, force=True))
        self._unfinished.clear()

    def _each(self, client: Any, change: Callable[[UUID], object]) -> None:
        for run in list(self._unfinished):
            try:
                state = client.read_flow_run(run).state
                if state is None or not state.is_final():
                    change(run)
                else:
                    self._unfinished.discard(run)
            except (ObjectNotFound, httpx.HTTPError):
                self._unfinished.discard(run)


class _DaskWorkers:
    """Tasks on a Dask cluster; the cluster itself starts one again whose worker process died."""

    def __init__(self, plan: ScoringPlan, runner: "DaskTaskRunner", shares: int) -> None:
        self._plan, self._runner, self._shares = plan, runner, shares
        self._futures: dict[int, Any] = {}

    def start(self, share: int) -> None:
        parameters = {"plan": self._plan.key, "share": share, "shares": self._shares}
        self._futures[share] = self._runner.submit(compute_share, parameters)

    def ended(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for share, future in self._futures.items():
            wrapped = future.wrapped_future
            if wrapped.done():
                problem = wrapped.exception() if wrapped.status == "error" else future.state.message
                found[share] = f"its task is {wrapped.status}: {problem or 'no reason'}"
        return found

    def stop(self) -> None:
        for future in self._futures.values():
            future.wrapped_future.cancel()
