"""Which Prefect server a run reports to. Its own, where none is set up, must end with the run, however that ends."""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from restill.stack.places import running_server


def is_set_up() -> bool:
    """Return whether runs report to a server that somebody else runs."""
    return "PREFECT_API_URL" in os.environ


def use_running(root: Path) -> None:
    """Report to the server of `restill up`, if it runs in this project and no other is set up."""
    if not is_set_up() and (server := running_server(root / ".restill")) is not None:
        os.environ["PREFECT_API_URL"] = server.api_url
        if server.auth is not None:
            os.environ.setdefault("PREFECT_API_AUTH_STRING", server.auth)


def end_orphans() -> None:
    """End servers of this project whose run was killed before it could end them; they would stay for ever."""
    home = os.environ["PREFECT_HOME"]
    for process in psutil.process_iter(["ppid", "cmdline"]):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if (
                not _is_ours(process.info["ppid"])
                and "prefect.server.api.server:create_app" in (process.info["cmdline"] or ())
                and process.environ().get("PREFECT_HOME") == home
            ):
                process.terminate()


def leave_at_once_on_interrupt(say: Callable[[], None], code: int) -> None:
    """End on Ctrl-C or SIGTERM as on a kill, after which a rerun goes on.

    The same Ctrl-C ends the server, and Prefect would try for minutes to tell it that the run has crashed.

    Args:
        say: called before leaving, to tell the person.
        code: exit code.
    """

    def leave(*_: object) -> None:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(child.pid) == os.getsid(0):  # the embedded S3 server has a session of its own, and stays
                    child.terminate()
        say()
        os._exit(code)

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)


def _is_ours(parent: int) -> bool:
    """Return whether a process that may be a server's parent is a living restill run."""
    try:
        return any("restill" in part for part in psutil.Process(parent).cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def home(root: Path) -> Path:
    """Return where the server of a project keeps its runs."""
    return root / ".restill" / "prefect"
