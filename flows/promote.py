"""Approve or reject a version that passed every gate; its gates and report are shown on the page of this run."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.recorded import recorded
from flows.score import score_missing
from restill.decisions import Decision
from restill.errors import ApprovalRefused, RegistryConflict
from restill.evaluation import Candidate
from restill.manifests import ApprovalDecision, Manifest, PromotionEntry
from restill.settings import Settings
from tasks.approval import Asked, decide_request, show_request
from tasks.gate import judge_challenger
from tasks.measurement import measure_models
from tasks.progress import run_name
from tasks.registry import load_challenger, load_champion, promote_challenger
from tasks.snapshot import pull_snapshot

MAX_OVERTAKEN = 3  # times it is judged again because another promotion came first

# What each means stands in the docstring below: Prefect takes the form's words from there.
Version = Annotated[str, Field(pattern=r"^[0-9a-f]{4,64}$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(min_length=1, max_length=2000)]


@dataclass(frozen=True)
class Promotion:
    """What came of a person's decision."""

    sentence: str
    entry: PromotionEntry | None = None
    decision: Decision | None = None  # if it was judged again


@flow(name="promote", description=__doc__, flow_run_name=run_name("promote"))
def promote(version: Version, decision: Literal["approve", "reject"], by: Name, reason: Reason) -> Any:
    """Record a decision and act on it. A version is promoted only if it passed against the champion that is live then.

    Args:
        version: the version or its first characters, as `restill registry approvals`, the message that asked, or the
            run of retrain names it. That run shows its gates and report; so does the run that you start here.
        decision: approve makes it champion; reject keeps the champion, and the version is not asked for again.
        by: who decides; kept in the history for ever.
        reason: why; kept in the history for ever.
    """

    def work(settings: Settings) -> tuple[str, Promotion]:
        if not by.strip() or not reason.strip():
            raise ApprovalRefused("Nobody decides without a name and a reason.", hint="Fill in both.")
        asked = show_request(version, settings)
        decided = decide_request(asked, decision, settings, by=by.strip(), reason=reason.strip())
        if decision == "reject":
            sentence = f"Version {asked.manifest.short} is not promoted: {decided.by} rejected it. {decided.reason}"
            return sentence, Promotion(sentence)
        promotion = _promote(asked, decided, settings)
        return promotion.sentence, promotion

    return recorded("promote", work)


def _promote(asked: Asked, approved: ApprovalDecision, settings: Settings) -> Promotion:
    """Promote what was approved, after another judgement if the champion is not the one it was judged against."""
    manifest, verdict, again = asked.manifest, asked.verdict, None
    for _ in range(MAX_OVERTAKEN):
        live = load_champion(settings)
        if live is not None and live[0].version == manifest.version:
            return Promotion(f"Version {manifest.short} is the champion already: number {live[0].sequence}.", live[0])
        if asked.used_by is not None:
            raise ApprovalRefused(
                f"The approval of {manifest.short} was used: it led to number {asked.used_by.sequence}, "
                "and another version has followed it.",
                hint=f"To go back to it: restill registry rollback --to {manifest.short}.",
            )
        if verdict.measurements.champion != (live[0].version if live else None):
            again = _judge_again(manifest, live, settings)
            verdict = again.verdict
            if not verdict.passed:
                sentence = (
                    f"Version {manifest.short} was approved by {approved.by} and is not promoted: the champion had "
                    f"changed, and judged against the present one it does not pass. {verdict.reason}"
                )
                return Promotion(sentence, decision=again)
        try:
            entry = promote_challenger(
                manifest, verdict, settings, replacing=live[0] if live else None, approved=approved
            )
        except RegistryConflict:  # overtaken between judgement and promotion
            continue
        judged = " after it was judged again, as the champion had changed" if again else ""
        sentence = f"Promoted {manifest.short} as number {entry.sequence}{judged}, approved by {entry.promoted_by}."
        return Promotion(sentence, entry, again)
    raise RegistryConflict(
        f"Other promotions came first {MAX_OVERTAKEN} times while {manifest.short} was judged.",
        hint="See who promotes: restill registry history. Then run promote again.",
    )


def _judge_again(manifest: Manifest, live: tuple[PromotionEntry, Candidate] | None, settings: Settings) -> Decision:
    """Judge a version against the present champion, on the data version that it was trained on, as retrain does."""
    champion = live[1] if live else None
    challenger = load_challenger(manifest, settings)
    snapshot = pull_snapshot(settings, manifest.lineage.data_version)
    score_missing(snapshot, settings)
    evaluation = measure_models(challenger, champion, snapshot, settings)
    return judge_challenger(challenger, champion, evaluation, settings)
