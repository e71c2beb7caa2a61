"""judge_challenger: the verdict, kept beside the version, and shown on the run page; an event if it is no."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from restill import decisions, reports, storage
from restill.decisions import Decision
from restill.evaluation import Candidate, Evaluation
from restill.registry import Registry
from restill.settings import Settings
from restill.storage.objects import LONGEST_LINK_SECONDS
from tasks import events
from tasks.progress import say
from tasks.recording import current
from tasks.step import HOURS, step
from tasks.timing import timer


@step("judge {challenger.manifest.short}", timeout_seconds=4 * HOURS)
def judge_challenger(
    challenger: Candidate, champion: Candidate | None, evaluation: Evaluation, settings: Settings
) -> Decision:
    """Judge, measuring latency again while that is all that is undecided; store verdict and report."""
    registry = Registry.configured(storage.connect(settings.storage, settings.state_dir), settings.registry)
    decision = decisions.decide(challenger, champion, evaluation, registry, settings, time=timer(settings), say=say)
    current().was_judged(decision.verdict)
    create_table_artifact(
        key="gates",
        table=[row.model_dump(mode="json") for row in decision.verdict.decisive_first],
        description=decision.verdict.reason,
    )
    card = reports.with_link(
        decision.report.markdown, decision.report_uri, registry.store, seconds=LONGEST_LINK_SECONDS
    )
    create_markdown_artifact(key="report", markdown=card, description=decision.verdict.reason)
    say(decision.verdict.reason)
    if not decision.verdict.passed:
        events.model_refused(challenger.manifest, decision, settings)
    return decision
