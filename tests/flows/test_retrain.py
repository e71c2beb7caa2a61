"""The life of one project, in order: each stage is a fixture that goes on from the stage before."""

import json

import pytest

from flows.retrain import retrain
from restill import storage
from restill.registry import Registry
from restill.settings import load_settings
from restill.snapshots import named_version, records


@pytest.fixture(scope="module")
def registry(project):
    settings = load_settings()
    return Registry(storage.connect(settings.storage, settings.state_dir), settings.registry.model)


@pytest.fixture(scope="module")
def first(project, prefect_server):
    project.drop("1", 3000)
    return retrain()


@pytest.fixture(scope="module")
def improved(project, first):
    project.drop("2", 2500)
    return retrain()


@pytest.fixture(scope="module")
def poisoned(project, improved):
    before = named_version(project.root)
    project.drop("poisoned", 1000)
    return before, retrain()


@pytest.fixture(scope="module")
def degraded(project, poisoned):
    project.drop("degrading", 6000)
    return retrain()


def test_the_first_run_promotes_a_champion_on_absolute_gates(first, registry):
    assert first.promotion is not None
    assert first.decision.verdict.bootstrap
    assert not first.refused
    champion = registry.champion("champion")
    assert champion.version == first.promotion.version
    assert champion.verdict_sha256 == first.decision.verdict.sha256
    assert first.decision.report.path.is_file()


def test_the_manifest_says_what_the_champion_was_made_from(first, registry, project):
    manifest = registry.manifest(first.promotion.version)
    assert manifest.lineage.data_version == named_version(project.root)
    assert manifest.lineage.data_record_sha256 == records.digest(registry.store, manifest.lineage.data_version)
    assert len(manifest.lineage.teacher_scores_sha256) == 64
    assert manifest.lineage.batches == (first.batches[0].batch_id,)
    assert {file.role for file in manifest.files} == {
        "saved_model", "litert", "litert_int8", "tokenizer", "calibration", "report",
    }  # fmt: skip


def test_the_report_shows_its_pictures_inside(first):
    assert first.decision.report.html.count('src="data:image/svg+xml;base64,') == 4
    assert first.decision.report.markdown.count("](data:image/png;base64,") == 3


def test_nothing_new_changes_nothing_and_needs_no_prefect(first, project, registry):
    done = project.restill("retrain", PREFECT_API_URL="http://127.0.0.1:9/api")  # nobody listens there
    assert done.returncode == 0, done.stderr
    assert "Nothing is new" in done.stdout
    assert len(registry.versions()) == 1
    assert json.loads(project.call("plan", "--json").stdout)["nothing_to_do"] is True


def test_the_champion_answers(first, project):
    done = project.restill("predict", "turn on the light", "turn on the light", "--json")
    answer = json.loads(done.stdout)
    assert answer["version"] == first.promotion.version
    assert answer["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert answer["same"] is True


def test_a_better_challenger_is_compared_and_promoted(improved, first):
    measured = improved.decision.verdict.measurements
    assert measured.champion == first.promotion.version
    assert improved.promotion is not None, improved.sentence
    assert improved.promotion.sequence == 2
    assert measured.accuracy["challenger"].accuracy > measured.accuracy["champion"].accuracy


def test_only_new_sentences_were_scored(improved, project):
    settings = load_settings()
    store = storage.connect(settings.storage, settings.state_dir)
    shards = [found.key for found in store.list("logits/")]
    assert len({key.split("/")[1] for key in shards}) == 1  # one teacher
    from restill import snapshots, teachers
    from restill.logits import LogitsStore

    logits = LogitsStore(store, teachers.fingerprint(settings.teacher), settings.logits_cache)
    distinct = set(snapshots.current(project.root).sentences())
    assert logits.missing(distinct) == []
    import pyarrow.parquet as pq

    stored = sum(pq.read_metadata(_file(store, key, project)).num_rows for key in shards)
    assert stored == len(distinct)  # none of them twice


def _file(store, key, project):
    path = project.root / "shard.parquet"
    store.download(key, path)
    return path


def test_a_poisoned_drop_is_refused_with_reasons_and_changes_nothing(poisoned, improved, registry, project):
    before, outcome = poisoned
    assert outcome.refused
    (batch,) = outcome.batches
    assert batch.outcome == "refused"
    assert any("Row rules kept out" in reason for reason in batch.reasons)
    assert named_version(project.root) == before
    assert registry.champion("champion").version == improved.promotion.version


def test_a_refused_file_is_not_judged_again(poisoned, project):
    steps = json.loads(project.call("plan", "--json").stdout)["steps"]
    assert any(step.startswith("leave poisoned.csv: refused on") for step in steps)


def test_a_worse_challenger_is_refused_by_the_accuracy_gates(degraded, improved, registry):
    assert degraded.batches[0].outcome == "accepted"
    assert degraded.refused
    assert degraded.promotion is None
    failed = {row.gate for row in degraded.decision.verdict.rows if row.answer == "fail"}
    assert failed & {"accuracy_floor", "f1_floor", "roc_auc_floor", "champion_non_inferiority", "slices"}
    assert registry.champion("champion").version == improved.promotion.version
    challenger = degraded.decision.verdict.measurements.challenger
    assert registry.verdicts(challenger) == [degraded.decision.verdict.document()]


def test_other_limits_are_tried_on_a_past_challenger(degraded, project, registry):
    version = degraded.decision.verdict.measurements.challenger
    (project.root / "lenient.toml").write_text("[gates]\nmin_accuracy = 0.01\nconfidence = 0.9\n")
    done = project.call("evaluate", "--version", version[:12], "--limits", "lenient.toml", "--json")
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)["after"]
    answers = {row["gate"]: row["answer"] for row in after["rows"]}
    assert answers["accuracy_floor"] == "pass"
    assert after["limits"]["confidence"] == 0.9
    assert len(registry.verdicts(version)) == 1
    (project.root / "wrong.toml").write_text("min_acuracy = 0.9\n")
    wrong = project.call("evaluate", "--version", version[:12], "--limits", "wrong.toml")
    assert wrong.returncode == 2
    assert "min_acuracy" in wrong.stderr


def test_a_version_is_measured_on_another_data_version(degraded, improved, project, registry):
    challenger = degraded.decision.verdict.measurements.challenger
    data_version = registry.manifest(improved.promotion.version).lineage.data_version
    before = [item.key for item in registry.store.list("registry/")]
    done = project.call("evaluate", "--version", challenger[:12], "--data-version", data_version[:12], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["data_version"] == data_version
    assert found["measured"]["champion"]["version"] == improved.promotion.version
    assert found["difference"]["upper"] < 0  # it had learned from wrong labels
    assert [item.key for item in registry.store.list("registry/")] == before
    unknown = project.call("evaluate", "--version", challenger[:12], "--data-version", "ffff")
    assert unknown.returncode == 1
    assert "ffff" in unknown.stderr


def test_gates_are_simulated_on_what_two_real_models_answered(degraded, project):
    done = project.call("gates", "simulate", "--decisions", "20", "--pairs", "2000", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "answered them" in found["origin"]
    assert [sum(rate["answers"].values()) for rate in found["rates"]] == [20] * len(found["rates"])
    listed = json.loads(project.call("gates", "list", "--json").stdout)
    assert "slices" in listed["gates"]


def test_a_refused_challenger_is_not_promoted_by_hand_without_force(degraded, project, registry):
    version = degraded.decision.verdict.measurements.challenger
    done = project.call("registry", "promote", version[:12], "--reason", "urgent")
    assert done.returncode == 1
    assert "--force" in done.stderr
    nameless = project.call("registry", "promote", version[:12], "--reason", "urgent", "--force")
    assert nameless.returncode == 2
    assert registry.champion("champion").sequence == 2


def test_rollback_goes_back_and_stays_back(degraded, first, project, registry):
    done = project.call("registry", "rollback", "--reason", "wrong answers", "--by", "on-call")
    assert done.returncode == 0, done.stderr
    entry = registry.champion("champion")
    assert (entry.version, entry.sequence, entry.action) == (first.promotion.version, 3, "rollback")
    assert (entry.reason, entry.promoted_by) == ("wrong answers", "on-call")
    assert registry.verify("champion") == []
    shown = project.call("registry", "history", "--json")
    assert [line["sequence"] for line in json.loads(shown.stdout)] == [3, 2, 1]


def test_a_search_is_run_and_shown_from_the_command_line(degraded, project):
    asked = ["--study", "small", "--over", "distillation.alpha=0:0.9", "--over", "student.hidden_size=8,16"]
    first = project.restill("tune", "--trials", "1", *asked, RESTILL_DISTILLATION__EPOCHS="1")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "validation score" in first.stdout
    shown = project.restill("tune", "--trials", "0", "--study", "small", "--json")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    (trial,) = json.loads(shown.stdout)
    assert (trial["number"], trial["state"], trial["values"]) == (0, "complete", {})
    past = project.restill("history", "--limit", "1", "--json")
    (run,) = json.loads(past.stdout)
    assert (run["flow"], run["result"]) == ("tune", "done"), past.stdout
    assert run["device_seconds"] > 0
    missing = project.restill("tune", "--trials", "0", "--study", "other")
    assert missing.returncode == 2
    assert "no study 'other'" in missing.stderr + missing.stdout
