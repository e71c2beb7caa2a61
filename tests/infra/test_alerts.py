"""Prometheus scrapes what `restill metrics` gives, and every alert fires when it should and not before."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from composed import INFRA
from plain_processes import Processes, find, free_port, until

from restill import runs
from restill.runs import Run

TESTS = Path(__file__).with_name("alerts-test.yml")
TOKEN = "for-prometheus-only"
SECONDS = 120  # a busy machine starts a process slowly


@pytest.fixture(scope="module", autouse=True)
def _installed():
    if missing := [program for program in ("prometheus", "promtool") if find(program) is None]:
        reason = f"not installed here: {', '.join(missing)} (Debian: apt-get install prometheus)"
        if os.environ.get("RESTILL_REQUIRE_SERVICES"):
            pytest.fail(reason)
        pytest.skip(reason)


def test_each_alert_fires_when_it_should():
    done = subprocess.run(
        [find("promtool"), "test", "rules", TESTS], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rules = {rule["alert"] for rule in yaml.safe_load((INFRA / "alerts.yml").read_text())["groups"][0]["rules"]}
    tested = {
        one["alertname"]
        for group in yaml.safe_load(TESTS.read_text())["tests"]
        for one in group["alert_rule_test"]
        if one.get("exp_alerts")
    }
    explained = re.findall(r"^\| (Restill\w+) \|", (INFRA.parent / "docs" / "observing.md").read_text(), re.MULTILINE)
    assert tested == rules == set(explained)


def test_prometheus_reads_the_metrics_of_a_running_process(store, tmp_path):
    runs.end(
        store,
        runs.begin(store, flow="retrain", model="default", run_id="1", name="retrain-1"),
        Run(),
        sentence="Nothing was new.",
        result="unchanged",
    )
    token = tmp_path / "token"
    token.write_text(TOKEN)
    metrics, server = free_port(), free_port()
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(INFRA / "alerts.yml")],
                "scrape_configs": [
                    {
                        "job_name": "restill",
                        "authorization": {"credentials_file": str(token)},
                        "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}],
                    }
                ],
            }
        )
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RESTILL_")} | {
        "RESTILL_ROOT": str(tmp_path),
        "RESTILL_METRICS__TOKEN_FILE": str(token),
        "RESTILL_METRICS__HOST": "0.0.0.0",  # noqa: S104 (so that the token is required)
        "RESTILL_STORAGE__ENDPOINT_URL": store.connection.endpoint_url,
        "RESTILL_STORAGE__BUCKET": store.connection.bucket,
        "RESTILL_STORAGE__PREFIX": store.connection.prefix,
        "RESTILL_STORAGE__ACCESS_KEY_ID": store.connection.access_key_id,
        "RESTILL_STORAGE__SECRET_ACCESS_KEY": store.connection.secret_access_key,
    }
    processes = Processes(tmp_path)

    def asked(query):
        answer = httpx.get(f"http://127.0.0.1:{server}/api/v1/query", params={"query": query}, trust_env=False)
        return [item["value"][1] for item in answer.json()["data"]["result"]]

    try:
        command = [Path(sys.executable).with_name("restill"), "metrics", "--port", str(metrics)]
        processes.start("metrics", command, environment=environment)
        processes.wait_for(
            "metrics", lambda: f":{metrics}/metrics" in processes.log("metrics"), seconds=SECONDS
        )  # it says where it listens
        assert httpx.get(f"http://127.0.0.1:{metrics}/metrics", trust_env=False).status_code == 401
        processes.start(
            "prometheus",
            [
                find("prometheus"),
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{server}",
            ],
        )
        processes.wait_for("prometheus", lambda: asked("restill_metrics_up") == ["1"], seconds=SECONDS)
        assert asked('restill_runs_total{flow="retrain", result="unchanged"}') == ["1"]
        # Before the first scrape there was nothing, and the alert was on its way.
        until(lambda: asked('ALERTS{alertname="RestillMetricsBlind"}') == [], seconds=SECONDS, what="no alert")
        processes.kill("metrics")
        until(
            lambda: asked('ALERTS{alertname="RestillMetricsBlind", alertstate="pending"}') == ["1"],
            seconds=SECONDS,
            what="the alert to be pending",
        )
    finally:
        processes.end()
