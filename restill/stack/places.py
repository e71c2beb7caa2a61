"""Where the stack keeps its files, and how others find out that it is up. Read by every command: nothing slow here."""

import contextlib
import hashlib
import json
import os
import secrets
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from restill.errors import ConfigurationError

_SOCKET_BYTES = 90  # of 107 that the system allows; supervisord adds its number while it starts
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Places:
    """The files of the stack of one project."""

    state_dir: Path

    @property
    def home(self) -> Path:
        """Return the folder of what the stack itself needs; readable by its owner only."""
        return self.state_dir / "stack"

    @property
    def logs(self) -> Path:
        """Return the folder of all logs."""
        return self.state_dir / "logs"

    @property
    def configuration(self) -> Path:
        """Return supervisord's configuration."""
        return self.home / "supervisord.conf"

    @property
    def pid_file(self) -> Path:
        """Return the file with supervisord's number."""
        return self.home / "supervisord.pid"

    @property
    def lock(self) -> Path:
        """Return the lock that whoever starts or stops the stack holds."""
        return self.home / "lock"

    @property
    def auth(self) -> Path:
        """Return the file with the key of the Prefect server, where it has one."""
        return self.home / "auth"

    @property
    def record(self) -> Path:
        """Return the file that says at which address the stack's own server is."""
        return self.home / "server.json"

    @property
    def socket(self) -> Path:
        """Return supervisord's socket: beside the rest, or where that path is too long for one, in a private folder."""
        near = self.home / "supervisord.sock"
        if len(os.fsencode(near)) <= _SOCKET_BYTES:
            return near
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        base = Path(runtime) if runtime and len(runtime) < _SOCKET_BYTES // 2 else Path(tempfile.gettempdir())
        return base / f"restill-{os.getuid()}" / f"{digest}.sock"

    def make(self) -> None:
        """Make the folders. Raises: ConfigurationError if somebody else owns the socket's."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self.logs.mkdir(parents=True, exist_ok=True)
        folder = self.socket.parent
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ConfigurationError(
                f"{folder} belongs to somebody else, or others may write there.",
                hint="Remove it, or set XDG_RUNTIME_DIR to a folder of your own.",
            )

    def make_auth(self) -> str:
        """Return the key of the Prefect server, `user:password`; made once, readable by the owner only."""
        if (key := self.read_auth()) is None:
            key = f"restill:{secrets.token_urlsafe(30)}"
            with contextlib.suppress(FileNotFoundError):
                self.auth.unlink()
            descriptor = os.open(self.auth, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(key + "\n")
        return key

    def read_auth(self) -> str | None:
        """Return that key if there is one."""
        with contextlib.suppress(FileNotFoundError):
            return self.auth.read_text(encoding="utf-8").strip() or None
        return None


@dataclass(frozen=True)
class Server:
    """A Prefect server that was started by `restill up` and answers."""

    api_url: str
    auth: str | None


def running_server(state_dir: Path) -> Server | None:
    """Return the stack's own server if it is up: supervisord and the port both take connections. Costs a millisecond.

    Args:
        state_dir: the project's .restill.
    """
    if os.name != "posix":
        return None
    places = Places(state_dir)
    try:
        record = json.loads(places.record.read_text(encoding="utf-8"))
        host, port, with_auth = str(record["host"]), int(record["port"]), bool(record["auth"])
        with socket.socket(socket.AF_UNIX) as keeper:
            keeper.settimeout(_LOOK_SECONDS)
            keeper.connect(str(places.socket))
        socket.create_connection((host, port), timeout=_LOOK_SECONDS).close()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Server(api_url(host, port), places.read_auth() if with_auth else None)


def api_url(host: str, port: int) -> str:
    """Return the address of the API as seen from this machine."""
    return f"{base_url(host, port)}/api"


def base_url(host: str, port: int) -> str:
    """Return the address of the UI as seen from this machine."""
    seen = local_host(host)
    return f"http://{f'[{seen}]' if ':' in seen else seen}:{port}"


def local_host(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not bound)
