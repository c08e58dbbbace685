# make demo    the whole pipeline on a day of feedback, in the terminal   (make demo ARGS="--for 60")
# make test    the tests, in under ten minutes on two cores
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := pipeline connectors models alerts benchmarks tests deploy

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-long lint format docs clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Ovoz needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

# Servers that only tests want: Matrix from PyPI, Bluesky from npm. Each apart from the environment of Ovoz.
$(VENV)/.servers: $(VENV)/.base tests/servers/package.json
	$(PYTHON) -m venv $(VENV)/servers/synapse
	$(VENV)/servers/synapse/bin/pip --disable-pip-version-check install --quiet matrix-synapse==1.163.2
	mkdir -p $(VENV)/servers/pds
	cp tests/servers/package.json $(VENV)/servers/pds/
	cd $(VENV)/servers/pds && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

demo: $(VENV)/.base  ## run the demo; Ctrl-C ends it
	@$(BIN)/ovoz demo $(ARGS)

test: $(VENV)/.test  ## run the tests (ARGS="tests/unit -x")
	$(BIN)/python -m pytest -m "not slow and not long" $(ARGS)

test-slow: $(VENV)/.test  ## run the longer proofs
	$(BIN)/python -m pytest -m slow $(ARGS)

test-long: $(VENV)/.test  ## run what takes many minutes (fifty deaths of a worker during an incident)
	$(BIN)/python -m pytest -m long $(ARGS)

lint: $(VENV)/.test  ## formatting, types, import rules
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test  ## sort imports and mend what ruff can mend
	$(BIN)/ruff check --fix $(SOURCES)

docs: $(VENV)/.test  ## write the generated pages under docs/ again
	$(BIN)/python -m pipeline.cli.document
	$(BIN)/python -m models.taxonomy
	$(BIN)/python -m deploy.document

clean:  ## remove the environment and everything that a run left here
	rm -rf $(VENV) ovoz-data .pytest_cache .mypy_cache .ruff_cache .hypothesis
