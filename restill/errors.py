"""Every error a person is meant to read: what happened, where, and what to do next.

The command line prints `str(error)` and `error.hint`, and exits with `error.exit_code`:
1 refused or failed, 2 usage or configuration, 3 storage unreachable.
"""


class RestillError(Exception):
    """Base of all errors with a message for a person; anything else is a bug and shows a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep what happened (`message`: what and where) apart from what to do next (`hint`)."""
        super().__init__(message)
        self.hint = hint


class ConfigurationError(RestillError):
    """A setting, argument or environment is wrong."""

    exit_code = 2


class DataRejected(RestillError):
    """New pair data was refused: unreadable file, or a batch rule failed. `reasons` has one line a rule."""

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), hint: str = "") -> None:
        """Carry the failed rules beside the one-line summary."""
        super().__init__(message, hint=hint)
        self.reasons = reasons


class DataMissing(RestillError):
    """The data set that `data.dvc` names is neither here nor in the DVC remote."""


class PointerNotShared(RestillError):
    """`data.dvc` could not be committed or pushed. The data set itself is published, and its version recorded."""


class PointerMoved(RestillError):
    """Upstream's `data.dvc` names another version by now: what was to be shared has to be made again on top of it."""

    def __init__(self, message: str, *, pointer: bytes, hint: str = "") -> None:
        """Carry the bytes of upstream's data.dvc."""
        super().__init__(message, hint=hint)
        self.pointer = pointer


class TeacherError(RestillError):
    """A teacher's files are missing, damaged or of a kind that cannot be read."""

    exit_code = 2


class TrainingFailed(RestillError):
    """Training cannot go on: a loss that is not finite, or too little data."""


class CeilingReached(RestillError):
    """The run has used up the device-seconds that it may; what it did is kept, and the next run goes on from there."""


class ExportMismatch(RestillError):
    """An exported artifact does not compute what the trained model computes."""


class MeasurementFailed(RestillError):
    """A measurement could not be taken; no verdict is made from it."""


class GateRefused(RestillError):
    """A version was to be promoted by hand, and no gate's verdict allows it."""


class ApprovalRefused(RestillError):
    """A person's decision came to nothing: the request is rejected, timed out or decided on, or there is none."""


class InvalidText(RestillError, ValueError):
    """A text that no model can answer for: not a string, nothing visible in it, or not valid Unicode."""


class StorageUnreachable(RestillError):
    """The object store does not answer, refuses the credentials, or has no space left."""

    exit_code = 3


class AccessDenied(StorageUnreachable):
    """The object store knows the key it was asked with, and that key has not the right. Names the right."""


class StorageUnsuitable(RestillError):
    """The object store answers but does not honour conditional writes, so promotions would not be safe."""

    exit_code = 3


class RegistryConflict(RestillError):
    """Another promotion came first: the challenger was judged against a champion that is no longer."""


class IntegrityError(RestillError):
    """Stored bytes are not the bytes that were promised. Names key, expected and found digest."""


class PrefectUnreachable(RestillError):
    """No Prefect server answers, or the one for this run does not start."""


class VersionNotFound(RestillError):
    """No such version, alias or entry in the registry."""


class StackFailed(RestillError):
    """A process that `restill up` keeps does not start, or does not end."""
