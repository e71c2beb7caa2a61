"""What a person is told when something is wrong: one message, no traceback, the promised exit code."""

import json
import subprocess
import sys
import time

import pytest
from factories import write_tiny_teacher

HEADER = "text_a,text_b,label\n"


def assert_told(done, code, *words):
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.csv", "q1,q2,label\na,b,1\n", ["missing.csv", "text_a", "--text-a"]),
        ("empty.csv", "", ["empty.csv", "empty"]),
        ("ragged.csv", HEADER + "a,b,1\nc,d\n", ["ragged.csv", "3"]),
        ("latin.csv", HEADER.encode() + b"caf\xe9,b,1\n", ["latin.csv", "UTF-8"]),
        ("broken.parquet", b"PAR1 and nothing else", ["broken.parquet"]),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_file_and_cause(project, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_told(project.restill("ingest", "--dry-run", str(path)), 1, *words)


def test_own_columns_are_named_on_the_command_line(project, tmp_path):
    path = tmp_path / "own.csv"
    rows = "".join(f"open door {number},open window {number},{number % 2}\n" for number in range(60))
    path.write_text("q1,q2,is_duplicate\n" + rows)
    names = ["--text-a", "q1", "--text-b", "q2", "--label", "is_duplicate"]
    assert_told(project.restill("ingest", "--dry-run", str(path), *names), 0, "60 of 60 rows")


def test_a_file_that_is_not_there_is_a_usage_error(project):
    assert_told(project.restill("ingest", "nowhere.csv"), 2, "nowhere.csv")


def test_a_project_without_data_says_how_to_get_some(project):
    assert_told(project.call("plan"), 0, "there is no data yet", "restill ingest FILE")


def test_a_teacher_without_weights_is_named(project, tmp_path):
    folder = tmp_path / "hollow"
    write_tiny_teacher(folder)
    (folder / "model.safetensors").unlink()
    done = project.restill("retrain", "--dry-run", RESTILL_TEACHER__PATH=str(folder))
    assert_told(done, 2, "model.safetensors", str(folder))


def test_an_object_store_that_does_not_answer_is_exit_code_3(project):
    started = time.monotonic()
    done = project.call("plan", RESTILL_STORAGE__ENDPOINT_URL="http://127.0.0.1:9")
    assert_told(done, 3, "http://127.0.0.1:9")
    assert time.monotonic() - started < 60


def test_a_wrong_setting_names_its_key(project):
    assert_told(project.call("plan", RESTILL_GATES__CONFIDENCE="2"), 2, "gates.confidence")
    (project.root / "restill.toml").write_text((project.root / "restill.toml").read_text() + "\n[gate]\nx = 1\n")
    assert_told(project.call("config", "show"), 2, "gate")


def test_nothing_promoted_yet_is_said(project):
    (project.root / "restill.toml").write_text('[teacher]\npath = "teacher"\n')
    assert_told(project.restill("predict", "a", "b"), 1, "restill retrain")
    assert_told(project.call("registry", "rollback", "--reason", "x"), 1)
    assert json.loads(project.call("registry", "list", "--json").stdout) == []


def test_secrets_are_masked_in_the_configuration(project):
    done = project.call("config", "show", "--json")
    assert project.environment["RESTILL_STORAGE__SECRET_ACCESS_KEY"] not in done.stdout
    assert json.loads(done.stdout)["storage"]["secret_access_key"] == "**********"


def test_help_does_not_pay_for_heavy_imports():
    code = (
        "import sys, flows.cli.main; "
        "print([name for name in ('tensorflow', 'prefect', 'great_expectations', 'dvc', 'polars', 'boto3') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_interrupt_is_said_and_leaves_130(project):
    code = (
        "import sys, os, signal, flows.cli.main as cli\n"
        "cli.load_settings = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['restill', 'plan']\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=project.root)
    assert_told(done, 130, "Interrupted")


def test_what_can_be_chosen_is_listed(project):
    listed = json.loads(project.restill("list", "losses", "--json").stdout)["choices"]
    assert {"bce", "contrastive", "kd", "embedding", "similarity-matrix"} <= set(listed)
    assert_told(project.restill("list", "exports"), 0, "litert_int8", "weights in 8 bits")
    assert_told(project.restill("list", "nonsense"), 2, "students")


def test_a_search_over_something_that_is_no_setting_is_refused_at_once(project):
    assert_told(project.restill("tune", "--over", "student.nothing=1:2"), 2, "student.nothing", "config show")
