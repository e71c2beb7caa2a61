"""appraise_version, replay_verdict: a version on other data, or under other limits; nothing is decided or stored."""

from prefect.artifacts import create_table_artifact

from restill import appraisal, replay, storage
from restill.appraisal import Appraised
from restill.gates import Verdict
from restill.registry import Registry
from restill.settings import GateSettings, Settings
from tasks.progress import say
from tasks.step import HOURS, step


def _registry(settings: Settings) -> Registry:
    store = storage.connect(settings.storage, settings.state_dir, for_reading=True)
    return Registry.configured(store, settings.registry)


@step("measure {version} on data version {data_version}", timeout_seconds=6 * HOURS)
def appraise_version(version: str, data_version: str, limits: GateSettings, settings: Settings) -> Appraised:
    """Measure a version and the champion on the test split of a version of the data set."""
    done = appraisal.appraise(_registry(settings), version, data_version, limits, settings)
    sentence = done.compared(limits) or "There is no other champion to compare it with."
    create_table_artifact(key="evaluation", table=done.rows, description=sentence)
    say(sentence)
    return done


@step("decide again on {version}", timeout_seconds=1 * HOURS)
def replay_verdict(version: str, limits: GateSettings, settings: Settings) -> Verdict:
    """Decide again on a past challenger from its stored predictions and timings."""
    registry = _registry(settings)
    before = replay.last_verdict(registry, version)
    after = replay.replay(before, registry, limits)
    answers = {row.gate: row.answer for row in before.rows}
    table = [{"was": answers.get(row.gate, "not there"), **row.model_dump(mode="json")} for row in after.decisive_first]
    create_table_artifact(key="evaluation", table=table, description=after.reason)
    say(after.reason)
    return after
