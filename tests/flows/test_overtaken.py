"""Another run promotes while this one judges: the history must stay true, and nothing is promoted twice."""

import pytest

import flows.retrain
from flows.retrain import retrain
from restill import storage
from restill.registry import Registry
from restill.settings import load_settings


@pytest.fixture
def registry(project):
    settings = load_settings()
    return Registry(storage.connect(settings.storage, settings.state_dir), settings.registry.model)


def test_a_run_whose_challenger_another_run_promoted_says_so(project, prefect_server, registry, monkeypatch):
    project.drop("1", 2000)
    first = retrain().promotion
    monkeypatch.setenv("RESTILL_DISTILLATION__SEED", "8")  # another student of the same data
    judge = flows.retrain.judge_challenger

    def judge_and_be_overtaken(challenger, champion, evaluation, settings):
        decision = judge(challenger, champion, evaluation, settings)
        registry.promote(
            challenger.manifest.version,
            alias="champion",
            expected=first,
            reason=decision.verdict.reason,
            promoted_by="another run",
            verdict_sha256=decision.verdict.sha256,
        )
        return decision

    monkeypatch.setattr(flows.retrain, "judge_challenger", judge_and_be_overtaken)
    outcome = retrain()
    assert outcome.decision.verdict.passed, outcome.sentence
    assert "Another run promoted" in outcome.sentence
    assert [entry.promoted_by for entry in registry.history("champion")][1:] == ["another run"]
    assert not outcome.refused
