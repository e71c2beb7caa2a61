"""The distillation loop: phases of a schedule, checkpoints, early stopping on validation."""

from restill.training.checkpoints import Epoch
from restill.training.loop import Progress, TrainedStudent, distill, prune
from restill.training.phases import SCHEDULES, Phase, Schedule

__all__ = ["SCHEDULES", "Epoch", "Phase", "Progress", "Schedule", "TrainedStudent", "distill", "prune"]
