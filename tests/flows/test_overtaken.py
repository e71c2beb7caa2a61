"""Another run promotes while this one judges: the history must stay true, and nothing is promoted twice."""

import pytest

import flows.retrain
from flows.retrain import retrain
from restill import plans, snapshots, storage
from restill.errors import RegistryConflict
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


def test_a_verdict_that_a_dead_run_left_is_acted_on(project, prefect_server, registry, monkeypatch):
    before = registry.champion("champion").sequence
    monkeypatch.setenv("RESTILL_DISTILLATION__SEED", "9")

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flows.retrain, "promote_challenger", die)
        with pytest.raises(KeyboardInterrupt):
            retrain()
    assert registry.champion("champion").sequence == before
    outcome = retrain()
    assert outcome.decision is None  # nothing was measured again
    assert outcome.promotion.sequence == before + 1
    assert "as an earlier run had decided" in outcome.sentence


def test_a_batch_that_data_dvc_no_longer_names_is_left_and_said(project, registry):
    pointer = (project.root / "data.dvc").read_bytes()
    project.drop("2", 600)
    assert project.restill("ingest", "incoming/2.csv").returncode == 0
    (project.root / "data.dvc").write_bytes(pointer)  # as git checkout data.dvc would
    settings = load_settings()
    snapshots.pull(settings.root, storage.connect(settings.storage, settings.state_dir))
    plan = plans.make_plan(settings, storage.connect(settings.storage, settings.state_dir))
    assert plan.new_files == ()
    assert plan.left_files == ("2.csv: it was taken in, but is not part of this data version (restill ingest)",)


def test_a_verdict_that_a_dead_run_left_is_not_used_against_another_champion(
    project, prefect_server, registry, monkeypatch
):
    """The champion changes after the run has made its plan, and before it promotes."""
    monkeypatch.setenv("RESTILL_DISTILLATION__SEED", "10")

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flows.retrain, "promote_challenger", die)
        with pytest.raises(KeyboardInterrupt):
            retrain()
    load_champion = flows.retrain.load_champion

    def load_after_a_rollback(settings):
        registry.rollback("champion", reason="wrong answers", by="on-call")
        return load_champion(settings)

    monkeypatch.setattr(flows.retrain, "load_champion", load_after_a_rollback)
    with pytest.raises(RegistryConflict):
        retrain()
    assert registry.history("champion")[-1].reason == "wrong answers"
