# Everything a fresh machine needs is Python 3.11 or newer, make, and a network to the package index.
# Each target sets up what it needs first; a second run finds it done.

PYTHON ?= python3
MINUTES ?= 10
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test test-all test-s3 test-browser chaos check fix bench lock clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## install everything into .venv

$(READY): requirements.lock pyproject.toml Makefile
	@echo "setting up $(VENV) (once)" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); say make PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v $(UV) >/dev/null || { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes --requirement requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## label an archive of emoji from two examples a class, on a Ray of its own
	@$(BIN)/fewshot demo >/dev/null

test: $(READY) ## the whole test suite, in two processes
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

test-all: test

test-s3: $(READY) ## the tests on a real S3 server on this machine, which is installed first (apt-get)
	@tests/s3/install.sh
	@$(BIN)/python -m pytest -m s3

test-browser: $(READY) ## the tests of reports and of `fewshot review` in a real browser, installed first (apt-get)
	@tests/ray_jobs/review/install_browser.sh
	@FEWSHOT_BROWSER_AT_LENGTH=1 $(BIN)/python -m pytest tests/ray_jobs/review/test_browser.py \
	  tests/ray_jobs/report/test_pages_in_a_browser.py

chaos: $(READY) ## break workers, nodes, drivers and storage at random for MINUTES=10; the bytes must be right
	@tests/s3/install.sh
	@$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

check: $(READY) ## format, lint, types and the fast tests: no Ray, no network
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -m "not ray and not slow and not s3" --numprocesses 2

fix: $(READY) ## format, and mend what the linter can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix .

docs: $(READY) ## write the reference of all keys of a job file, docs/job_file.md
	@$(BIN)/python -m tools.job_file_reference

bench: $(READY) ## benchmarks: ratios against baselines measured in the same run
	@$(BIN)/python -m tests.bench

lock: $(READY) ## resolve the dependencies anew
	$(UV) pip compile pyproject.toml --all-extras --generate-hashes --universal --python-version 3.11 \
	  --no-header --no-annotate --quiet --upgrade --output-file requirements.lock

clean: ## remove what was built and run; the environment stays
	rm -rf runs .bench .mypy_cache .ruff_cache .hypothesis
