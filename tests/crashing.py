"""Real processes for tests of the registry: children that kill themselves before a write, and promoters that compete.

Run as a program it takes orders as JSON lines on its input and forks a child for each: a child costs no imports.
It keeps one S3 client that is never used before the fork.
"""

import copy
import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from registered import register

from restill import removals, retention, views
from restill.errors import RegistryConflict
from restill.registry import Registry
from restill.storage.objects import Connection, ObjectStore
from restill.storage.refusals import Refusals


class DyingStore(ObjectStore):
    """Kills its process before its n-th write: what is stored then is what a kill after the write before it leaves."""

    def __init__(self, store, prefix, number):
        self.__dict__ = copy.copy(store.__dict__)
        self.connection = dataclasses.replace(store.connection, prefix=prefix)
        self._refusals = Refusals(self.connection)
        self._number, self._writes = number, 0

    def _write(self, do, *arguments, **more):
        self._writes += 1
        if self._writes == self._number:
            os.kill(os.getpid(), signal.SIGKILL)
        return do(*arguments, **more)

    def create(self, *arguments, **more):
        return self._write(super().create, *arguments, **more)

    def replace(self, key, body, *, etag, content_type):
        if etag is None:
            return self.create(key, body, content_type=content_type)
        return self._write(super().replace, key, body, etag=etag, content_type=content_type)

    def copy(self, *arguments, **more):
        return self._write(super().copy, *arguments, **more)

    def touch(self, *arguments, **more):
        return self._write(super().touch, *arguments, **more)

    def delete(self, *arguments, **more):
        return self._write(super().delete, *arguments, **more)

    def expiring_delete(self, key, *, seconds):
        signed = super().expiring_delete(key, seconds=seconds)
        store = self

        class Dying:
            def send(self):
                return store._write(signed.send)

        return Dying()


def run(store, order):
    own = DyingStore(store, order["prefix"], order.get("number", 0))
    registry = Registry(own, "default")
    if order["operation"] == "register":
        register(registry, Path(order["folder"]))
    elif order["operation"] == "promote":
        registry.promote(
            order["version"],
            alias="champion",
            expected=None,
            reason="better",
            promoted_by="a child",
            verdict_sha256=None,
            promotion_id="the same run",
        )
    elif order["operation"] == "rollback":
        registry.rollback("champion", reason="worse", by="a child")
    elif order["operation"] == "repair":
        views.rebuild(registry, "champion", thorough=True)
    elif order["operation"] == "gc":
        collect(registry, order)
    else:
        compete(own, order)


def collect(registry, order):
    removals.WAIT_SECONDS = 0.1
    removals.server_time = lambda store: store.clock() + timedelta(days=order["days"])
    policy = retention.Policy(
        keep=order.get("keep"), candidates=timedelta(days=order["candidates"]) if "candidates" in order else None
    )
    retention.collect(registry, policy)


def compete(store, order):
    """Let processes race for each number at a barrier; each writes down what it won."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(order["processes"])
    children = [
        context.Process(target=_compete, args=(store, order, barrier, number)) for number in range(order["processes"])
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise RuntimeError([child.exitcode for child in children])


def _compete(store, order, barrier, number):
    registry = Registry(store, "default")
    answers = []
    try:
        for turn, group in enumerate(order["groups"], start=1):
            expected = registry.champion("champion") if number in group else None
            barrier.wait(timeout=60)
            if number in group:
                try:
                    entry = registry.promote(
                        order["version"],
                        alias="champion",
                        expected=expected,
                        reason="better",
                        promoted_by=f"promoter {number}",
                        verdict_sha256=None,
                    )
                    answers.append([turn, "won", entry.sequence, entry.promotion_id])
                except RegistryConflict:
                    answers.append([turn, "lost", 0, ""])
            barrier.wait(timeout=60)
    except BaseException:
        barrier.abort()
        raise
    (Path(order["folder"]) / f"{number}.json").write_text(json.dumps(answers))


class Orders:
    """The running program, as tests see it."""

    def __init__(self, connection):
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._send(dataclasses.asdict(connection) | {"data_dir": None})

    def __call__(self, **order):
        """Let a child carry out an order; returns its exit code, negative for a signal."""
        self._send(order)
        return int(self._process.stdout.readline())

    def _send(self, content):
        self._process.stdin.write(json.dumps(content) + "\n")
        self._process.stdin.flush()

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


def main():
    store = ObjectStore(Connection(**json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run(store, json.loads(line))
                code = 0
            except BaseException:  # noqa: BLE001 (the child's end)
                traceback.print_exc()
            finally:
                os._exit(code)
        status = os.waitpid(pid, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
