"""What every flow that does work has around it: its settings, its log, its record, and an end in one sentence."""

from collections.abc import Callable
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from restill.errors import RestillError
from restill.runs import Run
from restill.settings import Settings, load_settings
from tasks import logs
from tasks.recording import begin, end, recording


def recorded(flow: str, work: Callable[[Settings], tuple[str, object]]) -> State[Any]:
    """Do the work of a flow and return its final state, whose message is a sentence; keep a record of the run.

    Args:
        flow: its name.
        work: does it and returns the sentence and what the flow returns.
    Raises: ConfigurationError if the configuration cannot be read; what is not a message for a person.
    """
    settings = load_settings()
    logs.write(settings)
    with recording(Run(ceiling=settings.run.max_device_seconds)):
        started = begin(flow, settings)
        try:
            sentence, outcome = work(settings)
        except RestillError as error:
            end(started, settings, sentence=str(error), result="failed")
            return Failed(message=f"{error} {error.hint}".strip(), data=error)
        except BaseException as error:
            end(started, settings, sentence=f"{type(error).__name__}: {error}", result="failed")
            raise
        end(started, settings, sentence=sentence)
        return Completed(message=sentence, data=outcome)
