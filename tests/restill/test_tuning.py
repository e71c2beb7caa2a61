import os
import subprocess
import sys

import pytest
from projects import scored_project

from restill import training, tuning
from restill.errors import CeilingReached, ConfigurationError, TrainingFailed
from restill.settings import DistillationSettings, Settings, StudentSettings


@pytest.mark.parametrize(
    ("setting", "text", "expected"),
    [
        ("distillation.alpha", "0:0.9", "FloatDistribution(high=0.9, log=False, low=0.0, step=None)"),
        (
            "distillation.learning_rate",
            "1e-4:1e-2:log",
            "FloatDistribution(high=0.01, log=True, low=0.0001, step=None)",
        ),
        ("student.hidden_size", "8:64", "IntDistribution(high=64, log=False, low=8, step=1)"),
        ("distillation.hard_loss", "bce, contrastive", "CategoricalDistribution(choices=('bce', 'contrastive'))"),
        ("distillation.soft_losses.kd", "0.1:2", "FloatDistribution(high=2.0, log=False, low=0.1, step=None)"),
    ],
)
def test_what_a_setting_is_drawn_from(setting, text, expected):
    assert str(tuning.distribution(setting, text)) == expected


@pytest.mark.parametrize(
    ("setting", "text", "says"),
    [
        ("teacher.prompt", "a,b", "no setting that can be tuned"),
        ("student.nothing", "1:2", "no setting that can be tuned"),
        ("student.hidden_size", "8", "nothing to choose from"),
        ("student.dropout", "0.9:0.1", "no range"),
        ("student.dropout", "x:y", "nothing to choose from"),
        ("student.hidden_size", "64, 64", "nothing to choose from"),
        ("distillation.alpha", "0:1e999", "not finite"),
        ("distillation.soft_losses.kd.x", "0:1", "no setting that can be tuned"),
        ("distillation.soft_losses.", "0:1", "no setting that can be tuned"),
    ],
)
def test_what_cannot_be_drawn_is_refused(setting, text, says):
    with pytest.raises(ConfigurationError, match=says):
        tuning.distribution(setting, text)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("student.kind", "static,foo"),
        ("student.hidden_size", "abc,def"),
        ("student.hidden_size", "-5:3"),
        ("student.dropout", "0:3"),
        ("student.max_tokens", "8:5000"),
        ("student.exports", "litert,litert_int8"),
        ("distillation.hard_loss", "0:1"),
        ("distillation.deterministic", "0:1"),
        ("distillation.soft_losses", "kd,mse"),
        ("distillation.soft_losses.nothing", "0.1:1"),
    ],
)
def test_values_that_could_not_be_configured_are_refused_before_anything_is_trained(setting, text):
    with pytest.raises(ConfigurationError, match=f"{setting} cannot be .*do not make a configuration"):
        tuning.distributions({setting: text}, Settings())


def test_a_search_has_to_draw_something():
    with pytest.raises(ConfigurationError, match="draws nothing"):
        tuning.distributions({}, Settings())
    assert tuning.distributions(tuning.DEFAULT_SPACE, Settings()).keys() == tuning.DEFAULT_SPACE.keys()


def test_values_are_checked_and_change_only_what_they_name():
    settings = Settings()
    changed = tuning.apply(settings, {"student.hidden_size": "64", "distillation.soft_losses.kd": 0.5})
    assert changed.student == settings.student.model_copy(update={"hidden_size": 64})
    assert changed.distillation.soft_losses["kd"] == 0.5
    with pytest.raises(ConfigurationError, match="dropout"):
        tuning.apply(settings, {"student.dropout": 3.0})


@pytest.fixture
def project(tmp_path, store):
    return scored_project(tmp_path, store)


SPACE = {"distillation.alpha": "0:0.9", "student.hidden_size": "8,12"}


@pytest.mark.parametrize("reason", [KeyboardInterrupt, CeilingReached])
def test_a_search_goes_on_where_it_was_stopped_and_shows_every_trial(project, monkeypatch, reason):
    snapshot, scores, settings = project
    read = []
    original = type(snapshot).read

    def watched(self, columns, *, split=None, batch=None):
        read.append(split)
        return original(self, columns, split=split, batch=batch)

    monkeypatch.setattr(type(snapshot), "read", watched)
    study = tuning.open_study(settings, "a")
    told = []
    tuning.tune(snapshot, scores, settings, study, space=SPACE, new_trials=2, after_trial=told.append)
    assert [trial.number for trial in told] == [0, 1]
    assert told[0].values == {}  # the configuration as it is
    assert set(told[1].values) == set(SPACE)
    assert set(read) == {"train", "validation"}

    def killed(_corpus, _student, _settings, folder, **_):
        folder.mkdir()
        raise reason("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(training, "distill", killed)
        with pytest.raises(reason):
            tuning.tune(snapshot, scores, settings, study, space=SPACE, new_trials=1)
    again = tuning.open_study(settings, "a")
    interrupted = next(trial for trial in tuning.trials(again) if trial.state == "running")
    tuning.tune(snapshot, scores, settings, again, space=SPACE, new_trials=1)
    found = tuning.trials(again)
    assert len(found) == 4
    assert next(trial for trial in found if trial.number == 3).values == interrupted.values
    assert found[0].score == max(trial.score for trial in found if trial.score is not None)
    best = next(trial for trial in found if trial.values)
    assert any(line.startswith("hidden_size = ") for line in tuning.toml_lines(best))
    folders = {path.name.split("-")[0] for path in (settings.state_dir / "tuning" / "a").iterdir() if path.is_dir()}
    assert folders == {"inputs"}  # nothing of a trial stays but its score


def test_a_trial_that_fails_says_why_and_the_search_goes_on(project, monkeypatch):
    snapshot, scores, settings = project
    original, calls = training.distill, []

    def second_fails(*args, **named):
        calls.append(1)
        if len(calls) == 2:
            raise TrainingFailed("The loss is not finite at epoch 1, step 3.")
        return original(*args, **named)

    monkeypatch.setattr(training, "distill", second_fails)
    study = tuning.open_study(settings, "b")
    tuning.tune(snapshot, scores, settings, study, space=SPACE, new_trials=3)
    states = {trial.number: (trial.state, trial.why) for trial in tuning.trials(study)}
    assert states[1] == ("failed", "The loss is not finite at epoch 1, step 3.")
    assert states[2][0] in ("complete", "pruned")


def test_a_search_that_is_gone_on_with_draws_something_new(tmp_path):
    settings = Settings(root=tmp_path)
    space = tuning.distributions({"distillation.alpha": "0:0.9"}, settings)
    drawn = [tuning.open_study(settings, "d").ask(space).params["distillation.alpha"] for _ in range(4)]
    assert len(set(drawn)) == 4


def test_trials_of_other_data_are_not_mixed(project):
    snapshot, scores, settings = project
    study = tuning.open_study(settings, "c")
    study.set_user_attr("about", {"data version": "0" * 12, "teacher": "1" * 12})
    with pytest.raises(ConfigurationError, match="another data version and another teacher"):
        tuning.tune(snapshot, scores, settings, study, space=SPACE, new_trials=1)


def test_a_study_that_is_not_there_is_not_made_by_looking(tmp_path):
    settings = Settings(root=tmp_path, student=StudentSettings(), distillation=DistillationSettings())
    with pytest.raises(ConfigurationError, match="no study 'x'"):
        tuning.open_study(settings, "x", create=False)
    with pytest.raises(ConfigurationError, match="cannot be a study's name"):
        tuning.open_study(settings, "../x")
    assert not (tmp_path / ".restill").exists()


def test_a_trial_that_the_ceiling_stops_each_time_ends_all_the_same(project):
    """Every run gets one step further; what it did is in the trial's checkpoint."""
    snapshot, scores, settings = project
    study = tuning.open_study(settings, "ceiling")
    runs = 0

    def two_steps():
        seen = set()

        def report(done, _total, _what):
            seen.add(done)
            if len(seen) > 2:
                raise CeilingReached("The run stopped at its ceiling.")

        return report

    while not any(trial.state == "complete" for trial in tuning.trials(study)):
        runs += 1
        assert runs < 200, "no progress"
        try:
            tuning.tune(snapshot, scores, settings, study, space=SPACE, new_trials=1, progress=two_steps())
        except CeilingReached:
            continue
    assert runs > 2
    (ended,) = [trial for trial in tuning.trials(study) if trial.state == "complete"]
    assert ended.epochs == settings.distillation.epochs
    assert {trial.why for trial in tuning.trials(study) if trial.state == "failed"} == {"interrupted"}


def test_nothing_stays_of_an_interrupted_trial_when_other_settings_are_drawn(project, monkeypatch):
    snapshot, scores, settings = project
    study = tuning.open_study(settings, "others")
    tuning.tune(snapshot, scores, settings, study, space=SPACE, new_trials=1)

    def killed(_corpus, _student, _settings, folder, **_):
        folder.mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "distill", killed)
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(snapshot, scores, settings, study, space=SPACE, new_trials=1)
    folder = settings.state_dir / "tuning" / "others"
    assert len(list(folder.glob("trial-*"))) == 1
    tuning.tune(snapshot, scores, settings, study, space={"student.dropout": "0:0.4"}, new_trials=1)
    assert list(folder.glob("trial-*")) == []
    (drawn,) = [trial.values for trial in tuning.trials(study) if trial.number == 2]
    assert drawn.keys() == {"student.dropout"}


def test_a_study_goes_on_only_with_what_it_drew_from(project):
    snapshot, scores, settings = project
    study = tuning.open_study(settings, "ranges")
    study.ask(tuning.distributions({"distillation.alpha": "0:0.9"}, settings))
    for other in ("0.1,0.5", "0.1:0.9:log"):
        with pytest.raises(ConfigurationError, match=r"draws distillation\.alpha from 0\.0 to 0\.9, evenly"):
            tuning.tune(snapshot, scores, settings, study, space={"distillation.alpha": other}, new_trials=1)


def test_inputs_of_a_few_widths_are_kept_and_no_more(tmp_path):
    folders = [tmp_path / f"inputs-{number}" for number in range(7)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        os.utime(folder, (number, number))
    tuning._keep_few(tmp_path, folders[1])
    assert {path for path in folders if path.exists()} == {folders[1], *folders[4:]}


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(200)])
def test_a_damaged_study_is_named(tmp_path, content):
    settings = Settings(root=tmp_path)
    tuning.open_study(settings, "e")
    file = tmp_path / ".restill" / "tuning" / "e" / "trials.sqlite3"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"trials\.sqlite3 cannot be used") as refused:
        tuning.open_study(settings, "e")
    assert "Move its folder away" in refused.value.hint


def test_a_study_stays_in_its_folder_whatever_that_is_called(tmp_path):
    root = tmp_path / "is it? 100%25 & more#1"
    root.mkdir()
    tuning.open_study(Settings(root=root), "f")
    assert (root / ".restill" / "tuning" / "f" / "trials.sqlite3").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_processes_that_begin_a_study_at_once_all_open_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from restill import tuning; from restill.settings import Settings\n"
        "print(len(tuning.open_study(Settings(root=Path(sys.argv[1])), 'g').trials))"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for child in children:
        out, err = child.communicate(timeout=120)
        assert out.split() == [b"0"], err
