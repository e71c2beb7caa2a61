"""Measure a version on any version of the data set, or decide on it again under other limits. Changes nothing."""

from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed
from pydantic import Field

from restill.settings import GateSettings, load_settings
from tasks.evaluation import appraise_version, replay_verdict
from tasks.progress import run_name

# What each means stands in the docstring below: Prefect takes the form's words from there.
Version = Annotated[str, Field(pattern=r"^[0-9a-f]{4,64}$")]


@flow(name="evaluate", description=__doc__, flow_run_name=run_name("evaluate"))
def evaluate(version: Version, data_version: Version | None = None, limits: GateSettings | None = None) -> Any:
    """Answer a question about a version; what comes out is a table on the page of the run.

    Args:
        version: a registered version, or its first characters.
        data_version: measure it, and the champion, on the test split of this version of the data set (`restill data
            log`); unset: decide again from what is stored.
        limits: what to decide under; unset: the configured limits.
    """
    settings = load_settings()
    held = limits or settings.gates
    if data_version is not None:
        done = appraise_version(version, data_version, held, settings)
        accuracy = done.found.accuracy["version"].accuracy
        shown = "not measurable" if accuracy is None else f"{accuracy:.3f}"
        sentence = f"Version {done.manifests['version'].short} on data version {done.snapshot.short}: accuracy {shown}."
        return Completed(message=" ".join(filter(None, (sentence, done.compared(held)))), data=done)
    verdict = replay_verdict(version, held, settings)
    short = verdict.measurements.challenger[:12]
    outcome = "would have passed" if verdict.passed else "would not have been promoted"
    return Completed(message=f"Under these limits version {short} {outcome}. {verdict.reason}", data=verdict)
