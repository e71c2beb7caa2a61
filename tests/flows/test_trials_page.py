"""What the run page of a search shows."""

import json

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from restill.tuning import TrialRecord
from tasks import tuning


def trial(number: int, score: float | None, why: str = "", **values: str) -> TrialRecord:
    drawn = {name.replace("__", "."): value for name, value in values.items()}
    return TrialRecord(number, "failed" if why else "complete", score, 3, None, 4.4, drawn, why)


def test_every_trial_is_shown_with_what_was_drawn_and_the_best_as_lines_for_the_configuration(prefect_server):
    found = [
        trial(2, 0.91, distillation__alpha="0.4", student__kind='"static"'),
        trial(0, 0.9),
        trial(1, None, "The loss is not finite.", distillation__alpha="0.9", student__kind='"cnn"'),
    ]

    @flow
    def shows() -> str:
        tuning._show("mine", found)
        return str(flow_run.get_id())

    asked = {"artifacts": {"flow_run_id": {"any_": [shows()]}}}  # the server has other searches' pages too
    with get_client(sync_client=True) as client:
        shown = {item["key"]: item for item in client.request("POST", "/artifacts/filter", json=asked).json()}
    table = json.loads(shown["trials"]["data"])
    # Prefect's page takes the columns of the first row for all.
    assert {tuple(row) for row in table} == {
        ("trial", "state", "score", "epochs", "seconds", "distillation.alpha", "student.kind", "why")
    }
    assert [row["trial"] for row in table] == [2, 0, 1]
    assert table[1]["distillation.alpha"] == "as configured"
    assert table[2]["why"] == "The loss is not finite."
    text = shown["best-settings"]["data"]
    assert '[student]\nkind = "static"\n[distillation]\nalpha = 0.4\n```' in text
    assert "trial 2 of study `mine`" in text
