"""Whatever dies, the next run does the right thing without a person, and the champion is whole all along."""

import httpx
import psutil
import pytest
from stack import until
from watching import Watcher

pytestmark = pytest.mark.timeout(1500)

CRASH_SECONDS = 300  # until the server knows of a dead run: three heartbeats of 30 s, and what it takes to look


@pytest.fixture(autouse=True)
def champion_is_whole(stack, tmp_path):
    """A reader looks all the time and meets nothing that is not whole; in the end history and versions are."""
    watcher = Watcher(stack.registry().store, tmp_path / "cache", pause=0.5)
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()
    assert [wrong for wrong in watcher.wrong if "StorageUnreachable" not in wrong] == []  # a dead store is no answer
    assert stack.registry().verify("champion") == []


def killed(stack, run, step):
    """SIGKILL the worker, its run and all of the run's processes inside a step."""
    stack.until_step(run, step)
    process = stack.process(run)
    family = [process, *process.children(recursive=True)]
    stack.kill("worker-cpu")
    for one in family:
        if one.is_running():
            one.kill()
    psutil.wait_procs(family, timeout=30)
    return run


def test_a_run_killed_in_each_step_is_finished_by_the_next_one(stack):
    """Each of these runs goes on where the one before was killed; the last one promotes."""
    dead = []
    for step in ("ingest", "score", "distill", "measure"):
        dead.append(killed(stack, stack.start("retrain/cpu"), step))
        assert stack.registry().history("champion") == []
    last = stack.until_final(stack.start("retrain/cpu"), seconds=2 * CRASH_SECONDS)
    assert last.state.is_completed(), last.state
    assert len(stack.registry().history("champion")) == 1
    names = [step.name for step in stack.steps(last.id)]
    assert not any(name.startswith("ingest") for name in names)  # what was finished is not done again
    for run in dead:
        until(lambda run=run: stack.run(run).state.is_crashed(), seconds=CRASH_SECONDS, what=f"{run} to be crashed")


def test_the_server_may_die_while_a_run_works(stack):
    """The run or, if it could not bear the silence, the next one does the work; nobody starts the server again."""
    before = len(stack.registry().history("champion"))
    run = stack.start("retrain/cpu", force=True)
    stack.until_step(run, "distill")
    stack.kill("prefect")
    until(lambda: answers(stack), seconds=CRASH_SECONDS, what="the server")
    ended = stack.until_final(run, seconds=2 * CRASH_SECONDS)
    if not ended.state.is_completed():
        ended = stack.until_final(stack.start("retrain/cpu", force=True), seconds=2 * CRASH_SECONDS)
    assert ended.state.is_completed(), ended.state
    assert len(stack.registry().history("champion")) >= before


def test_the_object_store_may_die_while_a_run_works(stack):
    """Steps that cannot reach it are tried again; it is started again by itself."""
    run = stack.start("retrain/cpu", force=True)
    stack.until_step(run, "distill")
    stack.kill("s3")
    ended = stack.until_final(run)
    assert ended.state.is_completed(), ended.state


def test_a_silent_object_store_holds_a_run_up_and_no_more(stack):
    """As when the network between them is cut: packets vanish, connections stay open."""
    run = stack.start("retrain/cpu", force=True)
    stack.until_step(run, "distill")
    server = psutil.Process(int(stack.part("s3")["pid"]))
    server.suspend()
    try:
        until(
            lambda: not any(step.name.startswith("distill") and is_running(step) for step in stack.steps(run)),
            seconds=120,
            what="the end of the training",
        )
    finally:
        server.resume()
    ended = stack.until_final(run)
    assert ended.state.is_completed(), ended.state


def test_of_two_retrains_the_second_waits_and_finds_nothing_new(stack):
    before = stack.registry().history("champion")
    first, second = stack.start("retrain/cpu"), stack.start("retrain/cpu")
    for run in (first, second):
        ended = stack.until_final(run)
        assert ended.state.is_completed(), ended.state
        assert "nothing" in str(ended.state.message).lower()
    periods = sorted((run.start_time, run.end_time) for run in map(stack.run, (first, second)))
    assert periods[0][1] <= periods[1][0]  # not at the same time
    assert stack.registry().history("champion") == before


def test_a_cancelled_run_leaves_no_process_and_no_harm(stack):
    run = stack.start("retrain/cpu", force=True)
    stack.until_step(run, "distill")
    process = stack.process(run)
    family = [process, *process.children(recursive=True)]
    stack.cancel(run)
    assert stack.until_final(run).state.is_cancelled()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    ended = stack.until_final(stack.start("retrain/cpu"))
    assert ended.state.is_completed(), ended.state


def test_a_run_that_wakes_up_late_promotes_nothing_unjudged(stack):
    """It stood still inside its measurement, was given up, and another run promoted meanwhile."""
    asleep = stack.start("retrain/cpu", force=True, overrides={"epochs": 2})
    stack.until_step(asleep, "measure")
    family = [stack.process(asleep), *stack.process(asleep).children(recursive=True)]
    for one in family:
        one.suspend()
    try:
        until(lambda: stack.run(asleep).state.is_crashed(), seconds=CRASH_SECONDS, what="it to be given up")
        meanwhile = stack.until_final(stack.start("retrain/cpu", force=True, overrides={"epochs": 3}))
        assert meanwhile.state.is_completed(), meanwhile.state
        history = stack.registry().history("champion")
    finally:
        for one in family:
            if one.is_running():
                one.resume()
    psutil.wait_procs(family, timeout=CRASH_SECONDS)
    after = stack.registry().history("champion")
    assert after[: len(history)] == history
    for entry in after[len(history) :]:  # it may have judged again, against the champion of then
        assert entry.replaces_sequence == history[-1].sequence
        assert entry.verdict_sha256 is not None
    ended = stack.until_final(stack.start("retrain/cpu"))
    assert ended.state.is_completed(), ended.state


def is_running(step):
    return step.state is not None and step.state.is_running()


def answers(stack):
    try:
        return stack.client.api_healthcheck() is None
    except httpx.HTTPError:
        return False
