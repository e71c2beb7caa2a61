"""Parameters that a person may get wrong: refused at once, with one sentence."""

import functools
import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, ValidationError, create_model

from restill.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R")

# What a version means stands in the flow's docstring: Prefect takes the form's words from there.
DataVersion = Annotated[str, Field(pattern="^[0-9a-f]{4,64}$", max_length=64)]

_SHOWN = 60  # characters of a wrong value


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check a flow's parameters by its annotations before its first line; for a flow with `validate_parameters=False`.

    Prefect's own check says pydantic's whole report. The form knows limits and choices too, but neither a form that was
    opened yesterday nor a program that calls the API has to keep to it.

    Raises: ConfigurationError naming each wrong parameter, what is allowed, and what came (when called).
    """
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    fields: dict[str, Any] = {
        name: (_without_none(hints[name]), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in signature.parameters.items()
    }
    model = create_model(f"{function.__name__} parameters", __config__=ConfigDict(extra="forbid"), **fields)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        given = {name: value for name, value in given.items() if value is not None or fields[name][1] is not None}
        try:
            found = model.model_validate(given)
        except ValidationError as error:
            raise ConfigurationError(
                f"Wrong parameters: {'; '.join(_say(item) for item in error.errors())}.",
                hint="Start it again with other values; nothing was done.",
            ) from None
        return function(**{name: getattr(found, name) for name in fields})  # type: ignore[call-arg]

    return call


def _without_none(hint: Any) -> Any:
    """Return an annotation without `None`: what is None was not given, and a message about it would only confuse."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    rest = tuple(part for part in get_args(hint) if part is not NoneType and get_args(part)[:1] != (NoneType,))
    return Union[rest]  # noqa: UP007  (of a tuple)


def _say(item: Any) -> str:
    """Return one wrong value in words."""
    where = ".".join(str(part) for part in item["loc"]) or "parameters"
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] == "extra_forbidden":
        return f"there is no {where}"
    if item["type"] == "missing":
        return f"{where} is missing"
    shown = repr(item["input"])
    return f"{where} {message}, not {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '…'}"
