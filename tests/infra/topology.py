"""What infra/compose.yaml puts on one host, as plain processes.

Commands and settings are those of the compose file. Only what a container would give is given here: addresses, ports,
folders, users.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from composed import command, config, environment
from noting import note
from plain_processes import Processes, find, free_port, until
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.sorting import FlowRunSort
from prefect.utilities.callables import parameter_schema
from redis import Redis

HOST = "127.0.0.1"
NEEDED = ("initdb", "postgres", "pg_isready", "redis-server")
WORKERS = ("worker-1", "worker-2")
PREFECT = [sys.executable, "-m", "prefect"]
SECONDS = 180  # for anything to happen: Python processes start slowly on a busy machine


class Topology:
    """The running stack and a client of it."""

    def __init__(self, folder):
        self.folder, self.noted = folder, folder / "noted"
        for made in (self.noted, folder / "redis"):
            made.mkdir()
        self.processes = Processes(folder)
        self.health = {worker: free_port() for worker in WORKERS}
        self._port = free_port()
        self.url = f"http://{HOST}:{self._port}/api"
        self.auth = f"admin:{secrets.token_urlsafe(16)}"
        self.variables = {
            "PREFECT_LISTEN": HOST,
            "PREFECT_LISTEN_PORT": str(self._port),
            "PREFECT_API_URL": self.url,
            "PREFECT_AUTH": self.auth,
            "POSTGRES_HOST": HOST,
            "POSTGRES_PORT": str(free_port()),
            "POSTGRES_PASSWORD": f"p@ss:/{secrets.token_hex(16)}",
            "REDIS_HOST": HOST,
            "REDIS_PORT": str(free_port()),
            "REDIS_PASSWORD": secrets.token_hex(16),
            "S3_ACCESS_KEY": "unused",
            "S3_SECRET_KEY": "unused",
        }
        self.client = SyncPrefectClient(self.url, auth_string=self.auth)

    def start(self):
        """Start everything, in the order that the compose file's `depends_on` says."""
        self._start_postgres()
        self._start_redis()
        self._run("migrate")
        self.start_services()
        self.start_server()
        self.client.create_work_pool(WorkPoolCreate(name="cpu", type="process"))
        for worker in WORKERS:
            self.start_worker(worker)
        for worker in WORKERS:
            self.processes.wait_for(worker, lambda worker=worker: self.is_healthy(worker), seconds=SECONDS)

    def start_server(self):
        """Start the API, and wait until it answers."""
        self._start("prefect-server")
        healthy = lambda: httpx.get(f"{self.url}/health", timeout=5).is_success  # noqa: E731
        self.processes.wait_for("prefect-server", healthy, seconds=SECONDS)

    def start_services(self):
        """Start the background services: scheduler, triggers and the like."""
        self._start("prefect-services")

    def start_worker(self, name):
        """Start a worker of the pool `cpu` that looks for work each second."""
        more = {
            "PREFECT_WORKER_WEBSERVER_HOST": HOST,
            "PREFECT_WORKER_WEBSERVER_PORT": str(self.health[name]),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PYTHONPATH": str(Path(__file__).parent),
        }
        self._start("worker-cpu", "--name", name, name=name, **more)

    def is_healthy(self, worker):
        """Return whether a worker answers on the port that the compose file's health check asks."""
        return httpx.get(f"http://{HOST}:{self.health[worker]}/health", timeout=5).is_success

    def deploy(self):
        """Register the light flow and return the deployment's id."""
        return self.client.create_deployment(
            self.client.create_flow_from_name("note"),
            "cpu",
            work_pool_name="cpu",
            path=str(Path(__file__).parent),
            entrypoint="noting.py:note",
            parameter_openapi_schema=parameter_schema(note).model_dump_for_openapi(),
        )

    def ask(self, deployment, what, **more):
        """Ask for a run that notes something, and return its id."""
        parameters = {"folder": str(self.noted), "what": what, **more}
        return self.client.create_flow_run_from_deployment(deployment, parameters=parameters).id

    def runs(self):
        """Return every run that the server knows."""
        return self.client.read_flow_runs(sort=FlowRunSort.ID_DESC, limit=100)

    def holds(self, resource):
        """Return whether Redis holds an event of a resource that waits for the services."""
        with Redis(HOST, int(self.variables["REDIS_PORT"]), password=self.variables["REDIS_PASSWORD"]) as redis:
            return any(resource.encode() in data for _, message in redis.xrange("events") for data in message.values())

    def ended(self, run):
        """Wait until a run is final, and return it."""

        def final():
            found = self.client.read_flow_run(run)
            return found if found.state.is_final() else None

        return until(final, seconds=SECONDS, what=f"the end of run {run}")

    def completed(self, run):
        """Wait until a run is final, require that it completed, and return it."""
        found = self.ended(run)
        assert found.state.is_completed(), found.state
        return found

    def stop(self):
        """End everything."""
        self.processes.end()

    def _environment(self, service):
        """Return a service's environment: nothing of this process's but what finds programs."""
        return {"PATH": os.environ["PATH"], **environment(service, self.variables), **self._places(service)}

    def _places(self, service):
        """Return where a service keeps its files here; in a container it has a file system of its own."""
        home = self.folder / service
        home.mkdir(exist_ok=True)
        return {
            "HOME": str(home),
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
            "RESTILL_ROOT": str(home),
        }

    def _command(self, service):
        program, *arguments = command(service, self.variables)
        assert program == "prefect"
        return [*PREFECT, *arguments]

    def _start(self, service, *arguments, name=None, **more):
        line = [*self._command(service), *arguments]
        self.processes.start(name or service, line, environment={**self._environment(service), **more})

    def _run(self, service):
        done = subprocess.run(
            self._command(service), env=self._environment(service), capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _start_postgres(self):
        """Start PostgreSQL with an empty database for Prefect, as its image does for POSTGRES_DB."""
        user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        identity = {"user": user, "group": user, "extra_groups": []} if user else {}
        data, password, port = self.folder / "postgres", self.folder / "password", self.variables["POSTGRES_PORT"]
        data.mkdir()
        password.write_text(self.variables["POSTGRES_PASSWORD"])
        if user:
            shutil.chown(data, user)
            shutil.chown(password, user)
        make = [find("initdb"), "-D", data, "-U", "prefect", "--auth=scram-sha-256", f"--pwfile={password}"]
        for line, said in (
            ([*make, "--no-sync"], b""),
            ([find("postgres"), "--single", "-D", data, "postgres"], b"CREATE DATABASE prefect"),
        ):
            subprocess.run(line, input=said, check=True, capture_output=True, cwd=self.folder, **identity)
        password.unlink()
        listening = [
            "-c",
            f"listen_addresses={HOST}",
            "-p",
            port,
            "-k",
            "",
            "-c",
            "fsync=off",
        ]  # the disk is not tested
        self.processes.start("postgres", [find("postgres"), "-D", data, *listening], user=user)
        asking = [find("pg_isready"), "-h", HOST, "-p", port]
        self.processes.wait_for(
            "postgres", lambda: subprocess.run(asking, capture_output=True).returncode == 0, seconds=SECONDS
        )

    def _start_redis(self):
        """Start Redis with the compose file's configuration."""
        port, configuration = self.variables["REDIS_PORT"], self.folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(config("redis", self.variables))
        listening = ["--bind", HOST, "--port", port, "--dir", self.folder / "redis"]
        self.processes.start("redis", [find("redis-server"), configuration, *listening])

        def answers():
            with socket.create_connection((HOST, int(port)), timeout=5) as link:
                link.sendall(b"PING\r\n")
                return link.recv(100).startswith(b"-NOAUTH")  # and nobody gets in without the password

        self.processes.wait_for("redis", answers, seconds=SECONDS)
