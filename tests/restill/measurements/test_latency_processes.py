"""What becomes of a run whose processes misbehave, and of the processes."""

import os
import sys
import threading

import psutil
import pytest

from restill.errors import MeasurementFailed
from restill.measurements.latency import conducting
from restill.measurements.latency.conducting import conduct
from restill.measurements.latency.records import Artifact

# Answers everything; {twist} comes before each answer.
OBEDIENT = """
import json, sys
ANSWER = {{"answered_ns": 0, "shapes": 1, "reference_ms": 1.0, "request_ms": [1.0] * 25,
           "peak_memory_mb": None, "pairs_per_second": 1.0}}
for number, line in enumerate(sys.stdin):
    {twist}
    print(json.dumps(ANSWER), flush=True)
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Conduct a run of two rounds with processes of this kind; none of them may be left."""

    def conducted(twist="pass"):
        monkeypatch.setattr(conducting, "COMMAND", (sys.executable, "-c", OBEDIENT.format(twist=twist)))
        artifact = Artifact(tmp_path, "student.tflite")
        before = {child.pid for child in psutil.Process().children()}
        try:
            return conduct(artifact, artifact, [("a", "b")], requests=100, warmup=1, threads=1)
        finally:
            assert {child.pid for child in psutil.Process().children()} <= before

    return conducted


def test_a_run_of_whole_rounds_comes_of_processes_that_answer(run):
    found = run()
    assert found.timings.challenger_ms.shape == (2, 50)
    assert found.timings.reference_ms.shape == (2, 6)
    assert found.challenger.peak_memory_mb is None
    assert str(os.cpu_count()) in found.hardware


@pytest.mark.parametrize(
    ("twist", "message"),
    [
        ("if number == 2: sys.exit('out of luck')", "ended with code 1: out of luck"),
        ("if number == 2: import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("if number == 2: print('Hello!')", r"answered with something else than was asked for: 'Hello!\\n'"),
        ("if number == 2: ANSWER.clear()", "answered with something else"),
    ],
)
def test_a_process_that_does_not_answer_fails_the_measurement(run, twist, message):
    with pytest.raises(MeasurementFailed, match=message) as failure:
        run(twist)
    assert failure.value.hint


def test_a_process_that_hangs_is_killed(run, monkeypatch):
    monkeypatch.setattr(conducting, "TIMEOUT_SECONDS", 1.0)
    with pytest.raises(MeasurementFailed, match="did not finish in 1 s"):
        run("import threading; threading.Event().wait()")


def test_a_process_may_say_much_on_its_error_stream(run):
    assert run("sys.stderr.write('warning ' * 100_000)").timings.control_ms.size == 100


def test_ctrl_c_leaves_no_process(run, monkeypatch):
    ask = conducting._Arm.ask

    def interrupted(self, do, returns, **about):
        if do == "block":
            raise KeyboardInterrupt
        return ask(self, do, returns, **about)

    monkeypatch.setattr(conducting._Arm, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        timer.join(10)  # one that was cancelled ends in a moment; one that was forgotten runs for minutes
        assert not timer.is_alive()
