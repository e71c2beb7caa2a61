"""Parameters that are wrong are refused before the first line of a flow, in words."""

from typing import Annotated

import pytest
from prefect.utilities.callables import parameter_schema
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.parameters import checked
from flows.score import score, score_share
from flows.tune import tune
from restill.errors import ConfigurationError
from restill.settings.overrides import Overrides


@checked
def flow(
    force: bool = False,
    version: Annotated[str, Field(pattern="^[0-9a-f]+$")] | SkipJsonSchema[None] = None,
    overrides: Overrides | None = None,
) -> tuple[bool, str | None, Overrides | None]:
    """Take three parameters.

    Args:
        force: do it anyway.
    """
    return force, version, overrides


def test_values_become_what_the_annotations_say():
    assert flow(force="true", version="0a", overrides={"epochs": "3"}) == (True, "0a", Overrides(epochs=3))
    assert flow() == (False, None, None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"version": "x; rm -rf"}, "version String should match pattern"),
        ({"overrides": {"epochs": 0}}, "overrides.epochs should be greater than or equal to 1, not 0"),
        ({"overrides": {"epoch": 3}}, "there is no overrides.epoch"),
        ({"force": "perhaps"}, "not 'perhaps'"),
    ],
)
def test_what_is_wrong_is_said_in_words(wrong, said):
    with pytest.raises(ConfigurationError) as refused:
        flow(**wrong)
    assert said in str(refused.value)
    assert "validation error" not in str(refused.value)


def test_prefect_still_sees_the_parameters():
    properties = parameter_schema(flow).properties
    assert list(properties) == ["force", "version", "overrides"]
    assert properties["force"]["description"] == "do it anyway."
    assert properties["version"]["type"] == "string"


@pytest.mark.parametrize(
    ("asked", "wrong", "said"),
    [
        (score, {"workers": 0}, "workers should be greater than or equal to 1, not 0"),
        (score, {"on": "moon"}, "on should be 'here', 'pool' or 'dask', not 'moon'"),
        (score, {"data_version": "../x"}, "data_version String should match pattern"),
        (score_share, {"plan": "x", "shares": 0}, "shares should be greater than or equal to 1, not 0"),
        (score_share, {"plan": "x", "share": -1}, "share should be greater than or equal to 0, not -1"),
        (tune, {"trials": -1}, "trials should be greater than or equal to 1, not -1"),
        (tune, {"study": "../x"}, "study String should match pattern"),
        (tune, {"space": {"student.dropout": 1}}, "space.student.dropout should be a valid string"),
    ],
)
def test_score_and_tune_refuse_what_is_wrong_before_they_begin(asked, wrong, said):
    with pytest.raises(ConfigurationError) as refused:
        asked.fn(**wrong)
    assert said in str(refused.value)
