"""What the tests of the files in infra/ share: the files, and the programs that look at them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from composed import COMPOSE, INFRA

SERVICES = COMPOSE["services"]
CHART_VALUES = {path.name: yaml.safe_load(path.read_text()) for path in (INFRA / "kubernetes").glob("*.values.yaml")}

# A value for each variable that infra/.env must hold.
SECRETS = {
    line.partition("=")[0]: f"secret-{number}"
    for number, line in enumerate((INFRA / ".env.example").read_text().splitlines())
    if re.match(r"\w+=$", line)
}


def program(name):
    """Return an installed program of the environment that runs the tests, or of PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def run(*command):
    """Return a program's exit code and what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr
