"""The services of infra/compose.yaml, read as Docker Compose would, for tests that start them without containers."""

import re
from pathlib import Path

import yaml

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text(encoding="utf-8"))

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<more>[^}]*))?\}")


def filled(text, variables):
    """Fill in `${NAME}`, `${NAME:-default}` and `${NAME:?message}`, the forms that the file uses."""

    def value(match):
        if given := variables.get(match["name"]):
            return given
        if match["kind"] == "-":
            return match["more"]
        raise KeyError(f"{match['name']} is needed: {match['more'] or text}")

    return _VARIABLE.sub(value, str(text))


def command(service, variables):
    """Return a service's command line."""
    return [filled(part, variables) for part in COMPOSE["services"][service]["command"]]


def environment(service, variables):
    """Return a service's variables: those of its env files, then its own."""
    found = {}
    for name in COMPOSE["services"][service].get("env_file", []):
        lines = (INFRA / name).read_text(encoding="utf-8").splitlines()
        found |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return found | {k: filled(v, variables) for k, v in COMPOSE["services"][service].get("environment", {}).items()}


def config(name, variables):
    """Return the content of one of its configs."""
    return filled(COMPOSE["configs"][name]["content"], variables)
