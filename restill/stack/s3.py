"""Keep the embedded S3 server running: `python -m restill.stack.s3`, the process that supervisord watches.

The server is a daemon of its own, which any command may start; this process ends when that one does, and takes it along
when it is asked to end.
"""

import signal
import sys

import psutil

from restill.settings import load_settings
from restill.storage.embedded import EmbeddedServer


class _Stopped(Exception):
    pass


def main() -> int:
    """Start the server, or find it running, and wait until it or this process is ended."""
    settings = load_settings()
    storage = settings.storage
    server = EmbeddedServer(settings.state_dir, bucket=storage.bucket, prefix=storage.prefix, region=storage.region)

    def stop(*_: object) -> None:
        raise _Stopped

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        connection = server.start()
        pid = server.status().pid
        print(f"S3 server runs at {connection.endpoint_url}, pid {pid}", flush=True)  # noqa: T201  (this is its log)
        if pid is not None:
            psutil.Process(pid).wait()
        print(f"S3 server {pid} ended", flush=True)  # noqa: T201
    except psutil.NoSuchProcess:
        return 1
    except _Stopped:
        server.stop()
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
