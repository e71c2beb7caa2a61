# `make retrain` and `make test` are all a newcomer needs; everything else is for maintainers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

export DO_NOT_TRACK := 1
export UV_PYTHON_DOWNLOADS := never

.PHONY: help setup retrain test lint audit lock clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## Create .venv with exactly the locked packages

$(READY): pyproject.toml requirements/installer.lock requirements/all.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Restill needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 …")'
	@echo "Setting up $(VENV) (about 3.5 GB of packages, once) …"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements/all.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

retrain: $(READY)  ## Set up, then retrain on what is new and promote it if it passes every gate
	@$(BIN)/restill retrain

test: $(READY)  ## Set up, then run all tests
	@$(BIN)/python -m pytest

lint: $(READY)  ## Format check, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(READY)  ## Ask an advisory database about every locked package; needs the Internet
	@# --strict: without it pip-audit is green when it could not look up a single package.
	$(BIN)/uv tool run pip-audit --strict --requirement requirements/all.lock --no-deps --disable-pip

lock:  ## Resolve the dependencies again into requirements/*.lock
	echo uv | $(COMPILE) --no-annotate - -o requirements/installer.lock
	$(COMPILE) --all-extras --group dev --group teacher pyproject.toml -o requirements/all.lock
	$(COMPILE) --no-annotate --constraints requirements/all.lock --extra serving --extra signing pyproject.toml -o requirements/serving.lock
	$(COMPILE) --no-annotate --constraints requirements/all.lock --extra train --group teacher pyproject.toml -o requirements/worker.lock
	echo 'tensorflow[and-cuda]' | $(COMPILE) --no-annotate --constraints requirements/worker.lock - | awk '/^[a-z]/ {on = /^nvidia-/} on' > requirements/gpu.lock

clean:  ## Remove the environment and caches; keeps .restill/ (your registry) and data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
