"""Retrain the student on what is new and make it champion if it passes every gate."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from prefect import flow
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.parameters import DataVersion, checked
from flows.recorded import recorded
from flows.score import score_missing
from restill.approvals import Approval
from restill.decisions import Decision
from restill.errors import RegistryConflict
from restill.evaluation import Candidate
from restill.gates import Verdict
from restill.ledger import BatchOutcome
from restill.manifests import Manifest, PromotionEntry
from restill.plans import Plan
from restill.settings import Settings
from restill.settings.overrides import Overrides
from restill.snapshots import Snapshot
from tasks.approval import ask_approval
from tasks.gate import judge_challenger
from tasks.ingestion import ingest_file, restore_sample
from tasks.measurement import measure_models
from tasks.planning import make_plan
from tasks.progress import label_run, name_run, run_name, say
from tasks.registry import load_challenger, load_champion, promote_challenger, register_challenger
from tasks.snapshot import pull_snapshot
from tasks.student import distill_student

Purpose = Annotated[str, Field(max_length=80)]

MAX_OVERTAKEN = 3  # times a run judges again because another promotion came first


@dataclass(frozen=True)
class Outcome:
    """What a retrain did, in one record."""

    sentence: str
    batches: tuple[BatchOutcome, ...]  # of the files that were new
    plan: Plan  # after they were taken in
    decision: Decision | None = None
    promotion: PromotionEntry | None = None
    approval: Approval | None = None  # it passed, and a person is to decide

    @property
    def refused(self) -> bool:
        """Return whether a batch or the challenger was refused."""
        refused_batch = any(batch.outcome == "refused" for batch in self.batches)
        return refused_batch or (self.decision is not None and self.promotion is None and self.approval is None)


@flow(name="retrain", description=__doc__, flow_run_name=run_name("retrain"), validate_parameters=False)
@checked
def retrain(
    force: bool = False,
    data_version: DataVersion | SkipJsonSchema[None] = None,
    purpose: Purpose = "",
    overrides: Overrides | SkipJsonSchema[None] = None,
) -> Any:
    """Run once, from new files to the gates' verdict.

    Refusing a file or a challenger is the job too, so such a run ends `Completed`; it is `Failed` only when the job
    could not be done. The champion is touched by nothing but a promotion.

    Args:
        force: train and judge anew, even if the student of the present inputs is already registered.
        data_version: train on this version of the data set, or the one that begins so, instead of the one that
            data.dvc names. New files then wait for another run, and data.dvc stays as it is; the gates are the same.
        purpose: why this run is made, in some words: part of its name, and of its log.
        overrides: settings of this run only; what is left out stays as configured.
    """

    def work(configured: Settings) -> tuple[str, Outcome]:
        settings = configured if overrides is None else overrides.apply(configured)
        name_run("retrain", purpose)
        if purpose:
            say(f"purpose: {purpose}")
        outcome = _retrain(settings, force=force, data_version=data_version, purpose=purpose)
        label_run(outcome="refused" if outcome.refused else "promoted" if outcome.promotion else "nothing to do")
        return outcome.sentence, outcome

    return recorded("retrain", work)


def _retrain(settings: Settings, *, force: bool, data_version: str | None, purpose: str) -> Outcome:
    batches: tuple[BatchOutcome, ...] = ()
    if data_version is None:
        restored = restore_sample(settings)
        new = [ingest_file(path, settings) for path in make_plan(settings).new_files]
        batches = (*([restored] if restored else []), *new)
    snapshot = pull_snapshot(settings, data_version)
    name_run("retrain", snapshot.short, purpose)
    plan = make_plan(settings, snapshot.version if data_version is not None else None)
    if plan.nothing_to_do and not force:
        return Outcome(_sentence(batches, f"Nothing else to do: {plan.lines()[-1]}."), batches, plan)

    live = load_champion(settings)
    if plan.challenger is not None and plan.verdict is not None and plan.verdict.passed and not force:
        # Judged by a run that died before it could act on it. It names the entry the plan saw, not the one loaded
        # since: if another promotion came between the two, this one must lose.
        entry = _promote_or_ask(plan.challenger, plan.verdict, settings, replacing=plan.champion)
        if isinstance(entry, Approval):
            sentence = f"Version {plan.challenger.short} {entry.words}."
            return Outcome(_sentence(batches, sentence), batches, plan, approval=entry)
        sentence = f"Promoted {plan.challenger.short} as number {entry.sequence}, as an earlier run had decided."
        return Outcome(_sentence(batches, sentence), batches, plan, promotion=entry)
    score_missing(snapshot, settings)
    # Each export is a challenger of its own, the preferred one first; those an earlier run refused are behind us.
    exports = settings.student.exports
    refused: list[str] = []
    for export in exports if force else exports[exports.index(plan.export) :]:
        if plan.challenger is not None and plan.export == export and not force:
            challenger = load_challenger(plan.challenger, settings)
        else:
            artifact = distill_student(snapshot, settings, force=force and export == exports[0])
            challenger = register_challenger(artifact, export, snapshot, live[0] if live else None, settings)
        outcome = _judge_and_promote(challenger, snapshot, live, settings, batches, plan)
        if outcome.promotion is not None or outcome.approval is not None:
            return outcome
        refused.append(outcome.sentence)
    assert outcome.decision is not None, "a challenger that was not promoted was judged"  # noqa: S101
    return replace(outcome, sentence=_sentence(batches, " ".join(refused)))


def _judge_and_promote(
    challenger: Candidate,
    snapshot: Snapshot,
    live: tuple[PromotionEntry, Candidate] | None,
    settings: Settings,
    batches: tuple[BatchOutcome, ...],
    plan: Plan,
) -> Outcome:
    """Judge a challenger against the champion, again if another promotion came between; promote it if it passes."""
    for _ in range(MAX_OVERTAKEN):
        champion = live[1] if live else None
        evaluation = measure_models(challenger, champion, snapshot, settings)
        decision = judge_challenger(challenger, champion, evaluation, settings)
        if not decision.verdict.passed:
            return Outcome(decision.verdict.reason, batches, plan, decision)
        try:
            entry = _promote_or_ask(
                challenger.manifest, decision.verdict, settings, replacing=live[0] if live else None
            )
        except RegistryConflict:  # overtaken: the verdict was against a champion that is no more
            live = load_champion(settings)
            if live is not None and live[0].version == challenger.manifest.version:
                sentence = f"Another run promoted {challenger.manifest.short} while this one judged it."
                return Outcome(_sentence(batches, sentence), batches, plan, decision, live[0])
            continue
        if isinstance(entry, Approval):
            sentence = f"Version {challenger.manifest.short} {entry.words}."
            return Outcome(_sentence(batches, sentence), batches, plan, decision, approval=entry)
        sentence = f"Promoted {challenger.manifest.short} as number {entry.sequence}. {decision.verdict.reason}"
        return Outcome(_sentence(batches, sentence), batches, plan, decision, entry)
    raise RegistryConflict(
        f"Other promotions came first {MAX_OVERTAKEN} times while this challenger was judged.",
        hint="See who promotes: restill registry history. The challenger is kept; run again.",
    )


def _promote_or_ask(
    challenger: Manifest, verdict: Verdict, settings: Settings, *, replacing: PromotionEntry | None
) -> PromotionEntry | Approval:
    """Promote what passed, or, where a person has to agree and has not, have it wait."""
    approval = ask_approval(challenger, verdict, settings) if settings.approval.required else None
    if approval is not None and approval.status != "approved":
        return approval
    approved = approval.decision if approval is not None else None
    return promote_challenger(challenger, verdict, settings, replacing=replacing, approved=approved)


def _sentence(batches: tuple[BatchOutcome, ...], rest: str) -> str:
    refused = [batch for batch in batches if batch.outcome == "refused"]
    return "".join(f"{batch.file_name} was refused: {batch.reasons[0]} " for batch in refused) + rest
