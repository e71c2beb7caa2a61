"""What an interrupted training goes on from, and the weights of its best epoch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from restill.files import write_whole


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training pairs gave."""

    number: int
    train_loss: float  # mean total loss a pair
    validation_loss: float
    validation_score: float  # ROC-AUC, or minus the loss where validation has one class only
    seconds: float
    phase: str = "joint"


@dataclass
class Progress:
    """How far a training is: whole epochs, and where it stands inside the next one."""

    history: list[Epoch] = field(default_factory=list)
    phase: int = 0  # number of the phase it is in
    step: int = 0  # batches done of the epoch after the last whole one
    loss_sum: float = 0.0  # over the pairs of those batches

    def best(self, phase: str | None = None) -> Epoch | None:
        """Return the epoch with the best validation score, the first of equals; of one phase only, if named."""
        epochs = [epoch for epoch in self.history if phase in (None, epoch.phase)]
        return max(epochs, key=lambda epoch: epoch.validation_score, default=None)


class Checkpoints:
    """Checkpoints of one training in one folder; each is whole before anything refers to it."""

    def __init__(self, folder: Path, learner_weights: list[tf.Variable], optimizer: Any) -> None:
        """Name the folder; nothing is read yet."""
        self._folder = folder
        self._number = tf.Variable(0, dtype=tf.int64)
        self._weights = tf.train.Checkpoint(weights=learner_weights)
        state = tf.train.Checkpoint(weights=learner_weights, optimizer=optimizer.variables, number=self._number)
        self._manager = tf.train.CheckpointManager(state, str(folder / "checkpoints"), max_to_keep=2)
        self._state = state

    @property
    def last(self) -> str | None:
        """Return the path of the last checkpoint; None if there is none."""
        latest: str | None = self._manager.latest_checkpoint
        return latest

    def restore(self) -> Progress:
        """Return how far the training got, its state restored; the beginning if there is no checkpoint."""
        if self.last is None:
            return Progress()
        self._state.restore(self.last).assert_existing_objects_matched()
        # A record per checkpoint, written before it: a kill between the two leaves one record too many.
        record = json.loads(self._record(int(self._number.numpy())).read_text("utf-8"))
        return Progress(**{**record, "history": [Epoch(**epoch) for epoch in record["history"]]})

    def save(self, progress: Progress) -> None:
        """Keep the state of weights and optimiser, and how far the training is."""
        number = int(self._number.numpy()) + 1
        write_whole(self._record(number), json.dumps(asdict(progress)).encode())
        self._number.assign(number)
        self._manager.save(checkpoint_number=number)
        for old in self._folder.glob("progress-*.json"):
            if int(old.stem.split("-")[1]) < number - 1:
                old.unlink()

    def save_best(self, epoch: Epoch) -> None:
        """Keep the weights of an epoch that is the best so far."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._weights.write(str(self._best(epoch)))

    def load_best(self, epoch: Epoch) -> None:
        """Put the weights of the best epoch back."""
        self._weights.read(str(self._best(epoch))).assert_existing_objects_matched()

    def drop_beaten(self, progress: Progress) -> None:
        """Delete the weights of epochs that are no longer the best of any phase; only once that is recorded."""
        phases = {epoch.phase for epoch in progress.history}
        kept = {self._best(best).name for phase in phases if (best := progress.best(phase)) is not None}
        for file in self._folder.glob("best-*"):
            if file.name.split(".")[0] not in kept:
                file.unlink()

    def _record(self, number: int) -> Path:
        return self._folder / f"progress-{number}.json"

    def _best(self, epoch: Epoch) -> Path:
        return self._folder / f"best-{epoch.number:04d}"
