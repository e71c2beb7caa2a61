"""A small search for better settings, by Optuna, judged on validation alone; the test split is never read.

Every trial is kept in a SQLite file of its own study, so that a search goes on where it was stopped and can be looked
at while it runs.
"""

import errno
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import filelock
import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from restill.errors import CeilingReached, ConfigurationError, TrainingFailed
from restill.logits import LogitsStore
from restill.manifests import digest_json
from restill.recipes import RECIPE_VERSION, training_key, word_vectors_digest
from restill.settings import DistillationSettings, Settings, StudentSettings
from restill.snapshots import Snapshot

if TYPE_CHECKING:
    from restill.training import Epoch

Report = Callable[[int, int, str], None]  # done, total, what

DEFAULT_SPACE: dict[str, str] = {
    "distillation.temperature": "0.5:8:log",
    "distillation.alpha": "0:0.9",
    "distillation.learning_rate": "0.0005:0.005:log",
    "distillation.hard_loss": "bce,contrastive",
    "student.embedding_size": "64,128,256",
    "student.hidden_size": "48,96,128",
    "student.dropout": "0:0.4",
}
SECTIONS: dict[str, type[StudentSettings] | type[DistillationSettings]] = {
    "student": StudentSettings,
    "distillation": DistillationSettings,
}
KEPT_INPUTS = 4  # corpora of a search that differ, e.g. by the width of the embeddings
STUDY_NAME = "^[a-z0-9][a-z0-9._-]{0,62}$"  # it names a folder
_RANGES = (optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution)
_RANGE = re.compile(r"(?P<low>[-+0-9.eE]+):(?P<high>[-+0-9.eE]+)(?P<log>:log)?")

# What the corpus and the first embeddings depend on: trials that agree in it share them.
_INPUTS = {
    "student": ("kind", "tokens", "max_vocabulary", "embeddings", "word_vectors", "embedding_size", "max_tokens"),
    "distillation": ("mined_pairs", "seed"),
}


@dataclass(frozen=True)
class TrialRecord:
    """One trial, as a person is shown it."""

    number: int
    state: str  # complete, pruned, failed or running
    score: float | None  # best validation score: ROC-AUC, or minus the loss where validation has one class only
    epochs: int
    started: datetime | None
    seconds: float | None
    values: dict[str, str]  # setting → value, as it is written in restill.toml
    why: str = ""  # of a failed one


def distribution(setting: str, text: str) -> optuna.distributions.BaseDistribution:
    """Return what a setting is drawn from.

    Args:
        setting: such as `distillation.alpha` or `distillation.soft_losses.kd`.
        text: `low:high`, `low:high:log`, or values with commas between them. A range of two whole numbers gives whole
            numbers where the setting has them.
    Raises: ConfigurationError if it is neither, or there is no such setting.
    """
    section, _, name = setting.partition(".")
    top, dot, inner = name.partition(".")
    field = SECTIONS[section].model_fields.get(top) if section in SECTIONS else None
    if field is None or (dot and (top != "soft_losses" or not inner or "." in inner)):
        raise ConfigurationError(
            f"{setting!r} is no setting that can be tuned.",
            hint="Name one of student.… or distillation.…; all keys: restill config show.",
        )
    if match := _RANGE.fullmatch(text):
        try:
            if field.annotation is int:
                return optuna.distributions.IntDistribution(
                    int(match["low"]), int(match["high"]), log=match["log"] is not None
                )
            low, high = float(match["low"]), float(match["high"])
            if not math.isfinite(high - low):
                raise ValueError("its ends are not finite")
            return optuna.distributions.FloatDistribution(low, high, log=match["log"] is not None)
        except (ValueError, OverflowError) as error:
            raise ConfigurationError(f"{text!r} is no range for {setting}: {error}.") from error
    values = list(dict.fromkeys(value.strip() for value in text.split(",") if value.strip()))
    if len(values) < 2:
        raise ConfigurationError(
            f"{text!r} gives {setting} nothing to choose from.", hint="Write low:high, low:high:log, or a,b,c."
        )
    return optuna.distributions.CategoricalDistribution(values)


def distributions(space: Mapping[str, str], settings: Settings) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return what each setting is drawn from.

    Args:
        space: setting → what it is drawn from.
        settings: the configuration, which every value is tried in.
    Raises: ConfigurationError as `distribution` does, if nothing is drawn, or if a value could not be configured.
    """
    if not space:
        raise ConfigurationError("The search draws nothing.", hint="Name a setting, or leave the space out.")
    found = {setting: distribution(setting, text) for setting, text in space.items()}
    for setting, drawn in found.items():
        for value in _to_try(drawn):
            try:
                apply(settings, {setting: value})
            except ConfigurationError as error:
                raise ConfigurationError(f"{setting} cannot be {value}. {error}") from error
    return found


def _to_try(drawn: optuna.distributions.BaseDistribution) -> tuple[Any, ...]:
    """Return every choice, or both ends of a range; of fractions one between, too: 0 and 1 would pass for a switch."""
    match drawn:
        case optuna.distributions.CategoricalDistribution():
            return drawn.choices
        case optuna.distributions.FloatDistribution():
            return (drawn.low, drawn.high, (drawn.low + drawn.high) / 2)
        case optuna.distributions.IntDistribution():
            return (drawn.low, drawn.high)
    return ()


def apply(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return the settings with these values, checked.

    Raises: ConfigurationError naming each wrong value.
    """
    changed = {name: getattr(settings, name).model_dump() for name in SECTIONS}
    for setting, value in values.items():
        section, *path = setting.split(".")
        place = changed[section]
        for part in path[:-1]:
            if place.get(part) is None:  # unset: the values drawn are then all there is
                place[part] = {}
            place = place[part]
        place[path[-1]] = value
    try:
        made = {name: kind.model_validate(changed[name]) for name, kind in SECTIONS.items()}
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigurationError(f"These values do not make a configuration: {'; '.join(lines)}.") from error
    return settings.model_copy(update=made)


def open_study(settings: Settings, name: str, *, create: bool = True) -> optuna.Study:
    """Return a study of this project: `.restill/tuning/<name>/trials.sqlite3`.

    Raises: ConfigurationError if it is not there and shall not be made, or its name cannot be a folder's.
    """
    if not re.fullmatch(STUDY_NAME, name):
        raise ConfigurationError(
            f"{name!r} cannot be a study's name.", hint="Use lower-case letters, digits, dots, dashes."
        )
    folder = _folder(settings, name)
    if not create and not (folder / "trials.sqlite3").is_file():
        raise ConfigurationError(f"There is no study {name!r} here.", hint=f"restill tune --study {name} starts one.")
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = folder / "trials.sqlite3"
    # One process makes the tables; another one that opens the new study meanwhile waits.
    with _readable(file), filelock.FileLock(folder / "opening"):
        study = optuna.create_study(
            study_name=name,
            storage=f"sqlite:///file:{quote(str(file.absolute()))}?uri=true",  # any path, with ? and % too
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        )
        # With the same seed, a search that is gone on with would draw what it drew at its beginning.
        seed = (settings.distillation.seed + len(study.get_trials(deepcopy=False))) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Say of a study's file that cannot be read or written what to do.

    Raises: OSError if the disk is full; ConfigurationError for all else.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        if "disk is full" in f"{error} {error.__cause__}":  # SQLite's words
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error
        raise ConfigurationError(
            f"The study's file {file} cannot be used: {str(getattr(error, 'orig', None) or error).splitlines()[0]}.",
            hint="Move its folder away to begin the study again; if it is in use or locked, wait.",
        ) from error


def trials(study: optuna.Study) -> list[TrialRecord]:
    """Return every trial: those that ended well first, the best of them in front; those without a score last."""
    found = [_record(trial) for trial in study.get_trials(deepcopy=False)]
    return sorted(
        found,
        key=lambda trial: (trial.state != "complete", trial.score is None, -(trial.score or 0.0), trial.number),
    )


def best(found: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the best of the trials that ended well; None if there is none."""
    return next((trial for trial in found if trial.state == "complete"), None)


def tune(
    snapshot: Snapshot,
    logits: LogitsStore,
    settings: Settings,
    study: optuna.Study,
    *,
    space: Mapping[str, str],
    new_trials: int,
    progress: Report = lambda done, total, what: None,
    after_trial: Callable[[TrialRecord], None] = lambda trial: None,
) -> None:
    """Run more trials of a study; each trains one student and keeps nothing of it but its score.

    The first trial of a study is the configuration as it is, so that every other can be compared with it. A trial that
    was killed is tried again; one whose loss becomes infinite is recorded as failed, with the reason.

    Args:
        snapshot: data version; only its training and validation splits are read.
        logits: the teacher's scores.
        settings: what is not drawn stays as configured.
        study: of `open_study`.
        space: setting → what it is drawn from (`distribution`).
        new_trials: trials to run now.
        progress: told after every training step of the trial that runs.
        after_trial: told of every trial that ended.
    Raises: ConfigurationError for a wrong space, if the study was begun with other data, teacher, configuration or
        values to draw from, or if another process is at it.
    """
    drawn_from = distributions(space, settings)
    lock = filelock.FileLock(_folder(settings, study.study_name) / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ConfigurationError(
            f"Another process is running trials of the study {study.study_name!r}.",
            hint="Wait for it, or name another study with --study.",
        ) from error
    try:
        with _readable(_folder(settings, study.study_name) / "trials.sqlite3"):
            _require_comparable(study, snapshot, logits, settings, drawn_from)
            _take_up_interrupted(study, drawn_from, _folder(settings, study.study_name))
            for _ in range(new_trials):
                trial = study.ask(drawn_from if _has_baseline(study) else {})
                _run(trial, snapshot, logits, settings, study, progress)
                after_trial(_record(study.trials[trial.number]))
    finally:
        lock.release()


def toml_lines(record: TrialRecord) -> list[str]:
    """Return the lines of restill.toml that make a trial's values the configuration."""
    lines: list[str] = []
    for section in SECTIONS:
        chosen = {name: value for name, value in record.values.items() if name.startswith(f"{section}.")}
        if chosen:
            lines += [f"[{section}]", *(f"{name.removeprefix(f'{section}.')} = {chosen[name]}" for name in chosen)]
    return lines


def _require_comparable(
    study: optuna.Study,
    snapshot: Snapshot,
    logits: LogitsStore,
    settings: Settings,
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
) -> None:
    about = {"data version": snapshot.version[:12], "teacher": logits.fingerprint[:12]}
    about["configuration"] = training_key(snapshot.version, logits.fingerprint, settings)[:12]
    before: dict[str, str] = study.user_attrs.get("about", about)
    if different := [name for name in about if before.get(name) != about[name]]:
        raise ConfigurationError(
            f"The study {study.study_name!r} was begun with another {' and another '.join(different)}.",
            hint="Their scores cannot be compared: name a new study with --study.",
        )
    for trial in study.get_trials(deepcopy=False):
        for name, known in trial.distributions.items():
            if not _compatible(known, distributions.get(name, known)):
                raise ConfigurationError(
                    f"The study {study.study_name!r} draws {name} from {_words(known)}.",
                    hint="Draw from the same, or name a new study with --study.",
                )
    study.set_user_attr("about", about)


def _take_up_interrupted(
    study: optuna.Study, drawn_from: Mapping[str, optuna.distributions.BaseDistribution], folder: Path
) -> None:
    """Have trials that were killed tried again, with their values, unless the search now draws other settings."""
    for killed in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        again = not killed.params or killed.params.keys() == drawn_from.keys()
        study.tell(killed.number, state=TrialState.FAIL)  # the sampler is not told that it was bad
        if not again:
            shutil.rmtree(_run_folder(folder, killed.params), ignore_errors=True)
        elif killed.params:
            study.enqueue_trial(killed.params)


def _has_baseline(study: optuna.Study) -> bool:
    """Return whether the configuration as it is was tried to its end: the one trial that draws nothing."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    return any(
        not trial.params and (trial.state in ended or "why" in trial.user_attrs)
        for trial in study.get_trials(deepcopy=False)
    )


def _run(
    trial: optuna.Trial,
    snapshot: Snapshot,
    logits: LogitsStore,
    settings: Settings,
    study: optuna.Study,
    progress: Report,
) -> None:
    from restill import inputs, training  # late: TensorFlow takes many seconds to import

    folder = _folder(settings, study.study_name)
    run = _run_folder(folder, trial.params)
    scores: list[float] = []

    def after_epoch(epoch: "Epoch") -> None:
        scores.append(epoch.validation_score)
        trial.report(max(scores), epoch.number)
        trial.set_user_attr("epochs", len(scores))
        if trial.should_prune():
            raise optuna.TrialPruned

    def report(done: int, total: int, what: str) -> None:
        progress(done, total, f"trial {trial.number}, {what}")

    try:
        chosen = apply(settings, trial.params)
        place = folder / f"inputs-{_inputs_key(chosen)}"
        made = inputs.prepare(snapshot, logits, chosen, place, progress=report)
        _keep_few(folder, place)
        trained = training.distill(
            made.corpus,
            chosen.student,
            chosen.distillation,
            run,
            embeddings=made.embeddings,
            predecessor=made.predecessor,
            progress=report,
            after_epoch=after_epoch,
        )
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (TrainingFailed, ConfigurationError) as error:
        trial.set_user_attr("why", str(error))
        study.tell(trial, state=TrialState.FAIL)
    except CeilingReached:  # not the trial's fault: like one that was killed, it is tried again
        raise
    except Exception as error:
        trial.set_user_attr("why", repr(error))
        study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        trial.set_user_attr("epochs", len(trained.history))
        # Of the student that would be exported: the best of the last phase, whatever came before it.
        study.tell(trial, trained.history[trained.best_epoch - 1].validation_score)
    shutil.rmtree(run, ignore_errors=True)


def _run_folder(folder: Path, values: Mapping[str, Any]) -> Path:
    """Return where a trial's checkpoints are: by its values, so that one that was interrupted goes on from them."""
    return folder / f"trial-{digest_json(dict(values))[:16]}"


def _keep_few(folder: Path, used: Path) -> None:
    """Remove the inputs that were used longest ago: a search over widths would keep a corpus for each."""
    os.utime(used)
    for old in sorted(folder.glob("inputs-*"), key=lambda path: path.stat().st_mtime_ns)[:-KEPT_INPUTS]:
        shutil.rmtree(old, ignore_errors=True)


def _compatible(known: optuna.distributions.BaseDistribution, asked: optuna.distributions.BaseDistribution) -> bool:
    """Return whether a study may go on with another range: of the same kind and scale, or the very same values."""
    for kind in _RANGES:
        if isinstance(known, kind) and isinstance(asked, kind):
            return known.log == asked.log
    return known == asked


def _words(known: optuna.distributions.BaseDistribution) -> str:
    if isinstance(known, _RANGES):
        return f"{known.low} to {known.high}, {'on a log scale' if known.log else 'evenly'}"
    assert isinstance(known, optuna.distributions.CategoricalDistribution)  # noqa: S101 - there is no other kind
    return ", ".join(map(str, known.choices))


def _folder(settings: Settings, study: str) -> Path:
    return settings.state_dir / "tuning" / study


def _inputs_key(settings: Settings) -> str:
    parts: dict[str, Any] = {
        name: getattr(settings, name).model_dump(mode="json", include=set(fields)) for name, fields in _INPUTS.items()
    }
    if settings.student.word_vectors is not None:
        parts["word_vectors"] = word_vectors_digest(settings)
    return digest_json({"recipe": RECIPE_VERSION, **parts})[:16]


def _record(trial: FrozenTrial) -> TrialRecord:
    values: Sequence[float] = [value for value in trial.intermediate_values.values() if value == value]
    duration = trial.duration
    return TrialRecord(
        number=trial.number,
        state={"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
        score=trial.value if trial.state == TrialState.COMPLETE else max(values, default=None),
        epochs=int(trial.user_attrs.get("epochs", 0)),
        started=trial.datetime_start,
        seconds=duration.total_seconds() if duration is not None else None,
        values={name: _toml(value) for name, value in trial.params.items()},
        why=str(trial.user_attrs.get("why", "interrupted" if trial.state == TrialState.FAIL else "")),
    )


def _toml(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?|true|false", text) else f'"{text}"'
