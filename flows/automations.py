"""What starts what, and who is told: automations on the Prefect server. The list with reasons is in docs/events.md."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, RunDeployment, SendNotification
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from restill.errors import ConfigurationError
from restill.settings import Settings, load_settings
from tasks import events

INGEST, RETRAIN = "ingest/cpu", "retrain/cpu"
FLOWS = [
    "evaluate",
    "housekeeping",
    "ingest",
    "promote",
    "retrain",
    "rollback",
    "score",
    "score-share",
    "time-artifacts",
    "tune",
    "watch-incoming",
]
ARRIVED = "restill: new files start ingest"
ACCEPTED = "restill: accepted batches start retrain"
DEAD = "restill: a run without heartbeat has crashed"
UNBEGUN = "restill: a run that was claimed and never begun has crashed"
TOLD = "restill: tell what happened"
FAILED = "restill: tell of failed runs"

# Batches accepted within this time start one retrain, at its end: by then all of them are in the data set.
GATHERED = timedelta(minutes=5)
MISSED_HEARTBEATS = 3
_HEARTBEAT_SECONDS = 30  # the shortest that Prefect knows
# What may come after Pending and is no end.
_BEGINNINGS = (
    "Running",
    "Retrying",
    "Resuming",
    "Scheduled",
    "Late",
    "AwaitingRetry",
    "AwaitingConcurrencySlot",
    "Cancelling",
)
_ENDS = ("Completed", "Failed", "TimedOut", "Crashed", "Cancelled", "Paused", "Suspended")
# Chat programs take <…> for a mention or a link, and these texts name files and repeat what people wrote.
_HARMLESS = " | replace('<', '‹') | replace('>', '›')"


def register() -> list[str]:
    """Make the automations, or bring them up to date; one that a person paused stays paused.

    Returns: a line for each.
    Raises: ConfigurationError if a deployment or the configured notification block is not on the server.
    """
    settings = load_settings()
    with get_client(sync_client=True) as client:
        wanted = list(_wanted(client, settings))
        lines = [_bring_up_to_date(client, automation) for automation in wanted]
        names = {automation.name for automation in wanted}
        for name in (TOLD, FAILED):
            if name not in names:
                lines += [_remove(client, found.id, name) for found in client.read_automations_by_name(name)]
    return lines


def _wanted(client: SyncPrefectClient, settings: Settings) -> Iterator[AutomationCore]:
    yield AutomationCore(
        name=ARRIVED,
        description="watch-incoming tells of new files; this hands them to ingest.",
        trigger=_when(settings, events.FILES_ARRIVED),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=_deployment(client, INGEST),
                # Rendered as JSON and read again: a name stays one string, whatever is in it.
                parameters={
                    "files": {
                        "__prefect_kind": "json",
                        "value": {"__prefect_kind": "jinja", "template": "{{ event.payload.files | tojson }}"},
                    }
                },
            )
        ],
    )
    yield AutomationCore(
        name=ACCEPTED,
        description=f"One retrain for all batches that are accepted within {GATHERED.seconds // 60} minutes.",
        # A retrain that took a file in by itself goes on with it; another one would find nothing to do.
        trigger=_when(settings, events.BATCH_ACCEPTED, within=GATHERED, flow="ingest"),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=_deployment(client, RETRAIN),
                parameters={"purpose": "new data"},
                # The trigger fires at the first event and is deaf to the others, so the run has to come after them.
                schedule_after=GATHERED,
            )
        ],
    )
    yield _dead_runs()
    yield _unbegun_runs(settings.stack.pending_seconds)
    if settings.notifications.block is not None:
        block = _block(client, settings.notifications.block)
        yield _told(settings, block)
        yield _failed_runs(block)


def _when(
    settings: Settings, *expected: str, within: timedelta = timedelta(0), flow: str | None = None
) -> EventTrigger:
    return EventTrigger(
        expect=set(expected),
        match={"prefect.resource.id": events.resource_id(settings)},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": flow} if flow is not None else {},
        posture=Posture.Reactive,
        threshold=1,
        within=within,
    )


def _of_our_runs(**conditions: Any) -> EventTrigger:
    return EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": FLOWS},
        for_each={"prefect.resource.id"},
        threshold=1,
        **conditions,
    )


def _dead_runs() -> AutomationCore:
    beat = max(get_current_settings().flows.heartbeat_frequency or 0, _HEARTBEAT_SECONDS)
    silence = MISSED_HEARTBEATS * beat
    return _crashed_without(
        {"heartbeat", *_ENDS},
        after="heartbeat",
        seconds=silence,
        name=DEAD,
        description=f"A run whose process or machine is gone would stay Running for ever. One that was heard of and "
        f"then not for {silence} s ({MISSED_HEARTBEATS} heartbeats) has crashed.",
        message=f"Nothing was heard of this run for {silence} s: its process or its machine is gone, or cut off. The "
        "next run goes on from what it finished.",
    )


def _unbegun_runs(seconds: int) -> AutomationCore:
    return _crashed_without(
        {*_BEGINNINGS, *_ENDS},
        after="Pending",
        seconds=seconds,
        name=UNBEGUN,
        description="A run whose worker died before it began has no heartbeat and would stay Pending for ever. It has "
        f"crashed after {seconds} s (stack.pending_seconds).",
        message=f"A worker claimed this run and did not begin it within {seconds} s. The next run does the work.",
    )


def _crashed_without(
    expected: set[str], *, after: str, seconds: int, name: str, description: str, message: str
) -> AutomationCore:
    """Return what marks a run Crashed that none of the expected events came from in time after another event."""
    return AutomationCore(
        name=name,
        description=description,
        trigger=_of_our_runs(
            after={f"prefect.flow-run.{after}"},
            expect={f"prefect.flow-run.{event}" for event in expected},
            posture=Posture.Proactive,
            within=timedelta(seconds=seconds),
        ),
        actions=[ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=message)],
    )


def _told(settings: Settings, block: UUID) -> AutomationCore:
    told = (
        events.BATCH_REFUSED,
        events.MODEL_PROMOTED,
        events.MODEL_REFUSED,
        events.MODEL_AWAITS_APPROVAL,
        events.MODEL_ROLLED_BACK,
    )
    report = f"{{% if event.payload.report %}}\nReport: {{{{ event.payload.report{_HARMLESS} }}}}{{% endif %}}"
    return AutomationCore(
        name=TOLD,
        description="Sends a message when a batch or challenger is refused, one waits, or the champion changes.",
        trigger=_when(settings, *told),
        actions=[_message(block, f"{{{{ event.payload.sentence{_HARMLESS} }}}}{report}")],
    )


def _failed_runs(block: UUID) -> AutomationCore:
    body = "{{ flow.name }}: the run {{ flow_run.name }} is {{ flow_run.state.name }}. {{ flow_run.state.message%s }}"
    return AutomationCore(
        name=FAILED,
        description="Sends a message when a run failed or crashed.",
        trigger=_of_our_runs(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.TimedOut", "prefect.flow-run.Crashed"},
            posture=Posture.Reactive,
            within=timedelta(0),
        ),
        actions=[_message(block, body % _HARMLESS)],
    )


def _message(block: UUID, body: str) -> ActionTypes:
    return SendNotification(block_document_id=block, subject="Restill", body=body)


def _deployment(client: SyncPrefectClient, name: str) -> UUID:
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"There is no deployment {name} on the Prefect server.", hint="Register it first: restill deploy."
        ) from error


def _block(client: SyncPrefectClient, name: str) -> UUID:
    type_slug, _, document = name.partition("/")
    try:
        return client.read_block_document_by_name(document, type_slug, include_secrets=False).id
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"There is no block {name} on the Prefect server (notifications.block).",
            hint="Make it in the UI under Blocks, or unset notifications.block.",
        ) from error


def _bring_up_to_date(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    found = client.read_automations_by_name(wanted.name)
    if not found:
        client.create_automation(wanted)
        return f"{wanted.name}: made"
    first, *more = found
    for twin in more:  # two that registered at once
        client.delete_automation(twin.id)
    wanted = wanted.model_copy(update={"enabled": first.enabled})
    if _essence(first) == _essence(wanted):
        return f"{wanted.name}: as it was"
    client.update_automation(first.id, AutomationCore(**wanted.model_dump(exclude={"owner_resource"})))
    return f"{wanted.name}: changed"


def _essence(automation: AutomationCore) -> dict[str, Any]:
    """Return what we decide of an automation: the server adds ids and times."""
    return AutomationCore.model_validate(automation.model_dump()).model_dump(
        include={"name", "description", "enabled", "trigger", "actions"}
    )


def _remove(client: SyncPrefectClient, automation: UUID, name: str) -> str:
    client.delete_automation(automation)
    return f"{name}: removed"
