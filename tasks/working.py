"""How a step that costs device time tells how far it is: the time is counted, and the run's ceiling held."""

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.progress import Report, reporting
from tasks.recording import current


@contextmanager
def working(key: str, title: str, *, devices: int) -> Iterator[Report]:
    """Give a callback like `reporting`'s that also stops the run at its ceiling, whenever more was done than before.

    So a run always gets somewhere, however low the ceiling. Whoever calls back has then stored what it counts as done.

    Args:
        key: artifact key: lower case and dashes.
        title: what is being done, for a person.
        devices: that work meanwhile.
    Raises: CeilingReached.
    """
    run = current()
    before: int | None = None
    with run.using(devices), reporting(key, title) as report:

        def counted(done: int, total: int, what: str = "") -> None:
            nonlocal before
            report(done, total, what)
            more, before = before is not None and done > before, done
            if more:
                run.check()

        yield counted
