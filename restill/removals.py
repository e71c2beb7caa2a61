"""How removal and registration keep out of each other's way, without a lock that a crash could leave behind.

A registration that finds a file stored already does not know whether a removal has just decided against it. So:

* What is younger than `MIN_GRACE` is never removed, and what a registration relies on is younger than half of that: an
  older object is touched first. The registration has the other half to write its manifest.
* A removal announces itself before it looks and signs its deletions before it looks; the server refuses them
  `SIGNED_SECONDS` later. A registration that touched something then looks for announcements. If there is none, any
  later removal will see the young object. If there is one, it waits until nothing that was decided before can still
  arrive, and looks again.

An announcement left by a crash costs registrations that find old files a wait; the next removal clears it.
"""

import logging
import os
import platform
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from restill.errors import ConfigurationError
from restill.layout import Layout
from restill.manifests import canonical_json
from restill.storage.objects import ObjectStore

logger = logging.getLogger(__name__)

MIN_GRACE = timedelta(days=1)
RELIED_ON = MIN_GRACE / 2
SIGNED_SECONDS = 30
CLOCK_SECONDS = 15  # by which a removing machine's clock may differ from the server's
WAIT_SECONDS = SIGNED_SECONDS + CLOCK_SECONDS + 5
STALE = timedelta(hours=6)  # after which an announcement is a crash's
_POLL_SECONDS = 0.5


@contextmanager
def announced(store: ObjectStore, layout: Layout) -> Iterator[str]:
    """Announce a removal while the block runs; yields the announcement's key."""
    key = f"{layout.removals}{secrets.token_hex(8)}.json"
    body = canonical_json({"host": platform.node(), "process": os.getpid()})
    store.create(key, body, content_type="application/json")
    try:
        yield key
    finally:
        now = store.clock()
        for found in store.list(layout.removals):
            if found.key == key or now - found.modified > STALE:
                store.delete(found.key)


def server_time(store: ObjectStore) -> datetime:
    """Return the server's time.

    Raises: ConfigurationError if this machine's clock differs from it by more than `CLOCK_SECONDS`.
    """
    now = store.clock()
    off = (datetime.now(UTC) - now).total_seconds()
    if abs(off) > CLOCK_SECONDS:
        raise ConfigurationError(
            f"This machine's clock is {off:+.0f} s off the object store's: nothing can be removed safely.",
            hint="Set the clock (NTP), then run it again.",
        )
    return now


def keep(store: ObjectStore, layout: Layout, keys: Iterable[str]) -> bool:
    """Make old objects young, so that no removal takes them away; returns whether they must be looked for again.

    Args:
        keys: objects that were found stored.
    """
    old = []
    now = None
    for key in keys:
        now = now or store.clock()
        found = store.head(key)
        if found is None or now - found.modified > RELIED_ON:
            old.append(key)
    for key in old:
        store.touch(key)
    if old:
        wait(store, layout)
    return bool(old)


def wait(store: ObjectStore, layout: Layout, *, besides: str = "") -> None:
    """Return when no removal, `besides` one, that looked before this call can still delete anything."""
    deadline = time.monotonic() + WAIT_SECONDS
    told = False
    while any(item.key != besides for item in store.list(layout.removals)) and time.monotonic() < deadline:
        if not told:
            logger.warning(
                "A removal (gc) is under way; waiting at most %d s until it is out of the way.", WAIT_SECONDS
            )
            told = True
        time.sleep(_POLL_SECONDS)
