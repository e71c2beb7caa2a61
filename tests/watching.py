"""A reader that never stops looking while others write, promote, roll back and remove."""

import secrets
import threading
from contextlib import contextmanager

from restill.errors import VersionNotFound
from restill.registry import Registry
from restill.storage import ObjectStore


class Watcher(threading.Thread):
    """Collects what was not whole."""

    def __init__(self, store, folder, *, pause=0.02):
        """Look every `pause` seconds: that leaves the machine some time for those it watches."""
        super().__init__()
        self._pause = pause
        self._registry = Registry(ObjectStore(store.connection), "default")
        self._folder = folder
        self._end = threading.Event()
        self.rounds, self.wrong = 0, []

    def run(self):
        while not self._end.is_set() or not self.rounds:
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 (whatever a reader meets is a finding)
                self.wrong.append(repr(error))
            self.rounds += 1
            self._end.wait(self._pause)

    def _look(self):
        registry = self._registry
        for version in registry.version_ids():
            try:
                manifest = registry.manifest(version)
            except VersionNotFound:
                continue  # gone since it was listed
            missing = registry._missing(manifest)
            if missing and version in registry.version_ids():
                self.wrong.append(f"{version[:12]}: {missing}")
        if (entry := registry.champion("champion")) is not None:
            manifest = registry.manifest(entry.version, sha256=entry.manifest_sha256)
            registry.fetch(manifest, self._folder / secrets.token_hex(4), manifest_sha256=entry.manifest_sha256)

    def stop(self):
        self._end.set()
        self.join()


@contextmanager
def watched(store, folder):
    """Look all the time while the block runs, and require that everything was whole."""
    watcher = Watcher(store, folder)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()
    assert watcher.wrong == []
