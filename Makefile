# Everything starts here: `make demo`, `make test`. Only Python 3.11+ and make are needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help install demo test lint types migrations docs bench chaos coverage mutants lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements-dev.txt pyproject.toml
	@echo 'Installing into $(VENV): a minute or two, once.'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

install: $(READY)  ## the environment in .venv, pinned and hashed

demo: $(READY)  ## collect 500 simulated images into demo/, without credentials or network
	@$(BIN)/collector demo --keep demo

test: $(READY)  ## the whole suite; names and skips what needs a missing service
	$(BIN)/pytest -n auto --dist loadgroup

lint: $(READY)  ## ruff, formatting, import contracts, bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive collector --configfile pyproject.toml

types: $(READY)  ## mypy --strict
	$(BIN)/mypy

migrations: $(READY)  ## no drift between the models and the revisions
	@rm -rf build/migrations && mkdir -p build/migrations
	COLLECTOR_DATABASE__URL=sqlite:///build/migrations/check.db $(BIN)/collector db upgrade
	COLLECTOR_DATABASE__URL=sqlite:///build/migrations/check.db $(BIN)/collector db status

docs: $(READY)  ## generate the data dictionary, the diagram, the pages of rules and faults, the Datasette file
	$(BIN)/python docs/build.py
	$(BIN)/python -m tests.faults.cells > docs/faults.md

bench: $(READY)  ## throughput, rate and memory, against named peers in the same run
	$(BIN)/python -m bench

chaos: $(READY)  ## the long form of the fault matrix (200 kills on each database alone take 36 minutes)
	COLLECTOR_CHAOS=1 $(BIN)/pytest -m 'chaos or not chaos' tests/faults

coverage: $(READY)  ## the branches that the suite takes, in its subprocesses too
	$(BIN)/coverage run -m pytest -n auto --dist loadgroup --timeout 600 -k 'not not_a_byte'  # its own notes, too
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutants: $(READY)  ## mutation testing of what must not be wrong (an hour)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group mutants
	$(BIN)/mutmut run
	$(BIN)/mutmut results

lock:  ## resolve requirements-dev.txt again
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --extra all --group dev pyproject.toml --output-file requirements-dev.txt \
	  --custom-compile-command "make lock"

clean:  ## remove what can be rebuilt
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
