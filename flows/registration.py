"""Put work pools and deployments on the Prefect server, as infra/prefect.yaml names them.

In code, as `prefect deploy` of Prefect 3.8 registers a deployment too, but then ends with an error (422 of its own
server). The file has that command's form, so it can be read by either.
"""

import hashlib
import importlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml  # type: ignore[import-untyped]
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, VariableCreate, VariableUpdate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restill.errors import ConfigurationError

_VARIABLE = "restill_deployments"  # on the server: what was registered last

Result = Literal["created", "updated", "unchanged"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkPool(_Part):
    """Where the runs of a deployment go."""

    name: str
    job_variables: dict[str, Any] = {}


class ConcurrencyLimit(_Part):
    """How many runs of a deployment there may be at once, and what becomes of the next."""

    limit: int = Field(ge=1)
    collision_strategy: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.ENQUEUE


class Schedule(_Part):
    """When runs start by themselves."""

    cron: str
    timezone: str
    slug: str
    active: bool = True
    parameters: dict[str, Any] = {}


class Deployment(_Part):
    """One entry of the file."""

    name: str
    entrypoint: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")]  # module.function, of the installed package
    description: str
    tags: list[str] = []
    version: str
    work_pool: WorkPool
    parameters: dict[str, Any] = {}
    concurrency_limit: ConcurrencyLimit | None = None
    schedules: list[Schedule] = []


class Deployments(_Part):
    """The whole file."""

    name: str
    definitions: dict[str, Any] = {}  # for YAML's anchors
    deployments: list[Deployment]


class Registered(_Part):
    """What became of one deployment."""

    name: str  # flow/deployment
    result: Result
    pool: str
    schedule: str  # in words; empty: none
    paused: bool


def packaged_file() -> Path:
    """Return the file that came with Restill: a clone's, or that of the installed package."""
    here = Path(__file__).parent
    in_clone = here.parent / "infra" / "prefect.yaml"
    return in_clone if in_clone.is_file() else here / "prefect.yaml"


def read(file: Path | None = None) -> Deployments:
    """Read and check the file; default: the one that came with Restill.

    Raises: ConfigurationError naming each wrong key.
    """
    path = file or packaged_file()
    try:
        return Deployments.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(
            f"Cannot read the deployments in {path}: {error.strerror}.", hint="Correct stack.deployments or --file."
        ) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}.") from error
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigurationError(f"{path} is not valid: {'; '.join(lines)}.") from error


def name_of(entry: Deployment) -> str:
    """Return the name of a deployment on the server, flow/deployment, without loading the flow."""
    return f"{entry.entrypoint.rpartition('.')[2].replace('_', '-')}/{entry.name}"


def is_current(file: Path | None = None) -> bool:
    """Return whether the server has the deployments of this very code and file; needs no flow, which take long to load.

    Raises: ConfigurationError if the file is wrong; httpx's errors.
    """
    digest = _digest(file)
    with get_client(sync_client=True) as client:
        found = client.read_variable_by_name(_VARIABLE)
        if found is None or not isinstance(found.value, dict) or found.value.get("digest") != digest:
            return False
        try:
            for name in found.value["deployments"]:
                client.read_deployment_by_name(name)
        except ObjectNotFound:  # somebody deleted it
            return False
    return True


def register(file: Path | None = None) -> list[Registered]:
    """Make the pools that are missing, and every deployment as the file says; safe to call at any time.

    One that is as the file says already is left alone, so runs that its schedule has planned stay. Pauses and schedules
    switched off by a person stay too.

    Raises: ConfigurationError if the file is wrong or names a flow that is not there; httpx's errors.
    """
    entries = read(file).deployments
    flows = [_load(entry) for entry in entries]
    with get_client(sync_client=True) as client:
        for pool in sorted({entry.work_pool.name for entry in entries}):
            _make_pool(client, pool)
        registered = [_register(client, entry, flow) for entry, flow in zip(entries, flows, strict=True)]
        _remember(client, _digest(file), [found.name for found in registered])
        return registered


def _digest(file: Path | None) -> str:
    """Return the digest of all that a deployment is made from: the file, and the code of flows and their parameters."""
    here = Path(__file__).parent
    sources = [*here.glob("*.py"), *(here.parent / "restill" / "settings").glob("*.py")]
    digest = hashlib.sha256(read(file).model_dump_json().encode())
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _remember(client: SyncPrefectClient, digest: str, names: list[str]) -> None:
    value = {"digest": digest, "deployments": names}
    if client.read_variable_by_name(_VARIABLE) is None:
        client.create_variable(VariableCreate(name=_VARIABLE, value=value))
    else:
        client.update_variable(VariableUpdate(name=_VARIABLE, value=value))


def _load(entry: Deployment) -> Flow[..., Any]:
    module, _, name = entry.entrypoint.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, Flow):
            raise TypeError("that is no flow")
        if not name_of(entry).startswith(f"{found.name}/"):
            raise ValueError(f"its flow is named {found.name}, unlike the function")
        return found
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"There is no flow {entry.entrypoint}: {error}.", hint="An entrypoint is module.function, and importable."
        ) from error


def _make_pool(client: SyncPrefectClient, name: str) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        except ObjectAlreadyExists:  # made by another in the meantime
            return


def _register(client: SyncPrefectClient, entry: Deployment, flow: Flow[..., Any]) -> Registered:
    full_name = name_of(entry)
    try:
        before = client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        before = None
    off = {(found.slug or "") for found in before.schedules if not found.active} if before else set[str]()
    wanted = _wanted(entry, flow)
    schedules = [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=schedule.cron, timezone=schedule.timezone),
            active=schedule.active and schedule.slug not in off,
            slug=schedule.slug,
            parameters=schedule.parameters,
        )
        for schedule in entry.schedules
    ]
    result: Result = "created"
    if before is not None:
        result = "unchanged" if _is_as_wanted(before, wanted, entry) else "updated"
    if result != "unchanged":
        client.create_deployment(  # which replaces one of that name
            flow_id=client.create_flow_from_name(flow.name),
            name=entry.name,
            schedules=schedules,
            paused=before.paused if before is not None else False,
            concurrency_limit=entry.concurrency_limit.limit if entry.concurrency_limit else None,
            concurrency_options=ConcurrencyOptions(collision_strategy=entry.concurrency_limit.collision_strategy)
            if entry.concurrency_limit
            else None,
            pull_steps=[],
            **wanted,
        )
    return Registered(
        name=full_name,
        result=result,
        pool=entry.work_pool.name,
        schedule=", ".join(
            f"{schedule.cron} {schedule.timezone}{' (off)' if schedule.slug in off else ''}"
            for schedule in entry.schedules
        ),
        paused=before.paused if before is not None else False,
    )


def _wanted(entry: Deployment, flow: Flow[..., Any]) -> dict[str, Any]:
    """Return what a deployment is to have, under the names that the server gives it."""
    return {
        "version": entry.version,
        "description": entry.description,
        "tags": entry.tags,
        "entrypoint": entry.entrypoint,
        "parameters": entry.parameters,
        "work_pool_name": entry.work_pool.name,
        "job_variables": entry.work_pool.job_variables,
        "parameter_openapi_schema": _form(flow),
        "enforce_parameter_schema": True,
    }


def _form(flow: Flow[..., Any]) -> dict[str, Any]:
    """Return what the UI makes a form from. It fills in defaults, and null is one that the same schema may refuse."""
    schema = parameter_schema(flow).model_dump_for_openapi()
    for field in schema["properties"].values():
        if field.get("default", ...) is None:
            del field["default"]
    return schema


def _is_as_wanted(before: DeploymentResponse, wanted: dict[str, Any], entry: Deployment) -> bool:
    if any(getattr(before, name) != value for name, value in wanted.items()):
        return False
    limit, options = before.global_concurrency_limit, before.concurrency_options
    found = (
        ConcurrencyLimit(limit=limit.limit, collision_strategy=options.collision_strategy)
        if limit and options
        else None
    )
    schedules = {
        (found.slug, found.schedule.cron, found.schedule.timezone, str(found.parameters))
        for found in before.schedules
        if isinstance(found.schedule, CronSchedule)
    }
    asked = {(asked.slug, asked.cron, asked.timezone, str(asked.parameters)) for asked in entry.schedules}
    return found == entry.concurrency_limit and len(before.schedules) == len(asked) and schedules == asked
