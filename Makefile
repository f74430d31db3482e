# make demo   a search on the demo data, in about three minutes
# make docs   the documentation as a site, in site/
# make test   everything that must hold before a change goes in
# Each makes its own virtual environment, .venv, and uses it again while it is up to date.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt Makefile

# Of the search; encoding, search, finalists and all.
TIME_LIMIT ?= 170s
# Processes that test at the same time.
WORKERS ?= 2

# Idle threads that spin slow a shared machine down by an order of magnitude.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: demo test test-slow lint format docs clean help

help:  ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: $(VENV)/.demo  ## Search the demo data, show what won, score it on the test rows
	@run=runs/demo; n=1; \
	while [ -e "$$run" ]; do n=$$((n + 1)); run="runs/demo-$$n"; done; \
	set -x; \
	$(VENV)/bin/polymix search demo --time-limit $(TIME_LIMIT) --run-dir "$$run" && \
	$(VENV)/bin/polymix evaluate "$$run"

test: lint  ## Lint, types and all tests but the slow ones
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev  ## The tests that take minutes
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal -m slow --timeout 1800

lint: $(VENV)/.dev  ## Lint and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.dev  ## Put the code in its form
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(VENV)/.docs  ## The documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

clean:  ## Remove the virtual environment and what tools left, not the runs
	rm -rf $(VENV) build dist site *.egg-info src/*.egg-info .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python from 3.11 on that can make a virtual environment.
$(VENV)/.python: Makefile
	@for python in python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
			2>/dev/null; then \
			[ -x $(PY) ] || $$python -m venv $(VENV) || exit 1; touch $@; exit 0; \
		fi; \
	done; \
	echo "polymix needs Python 3.11 or later, with venv, on the PATH as python3" >&2; \
	echo "(Debian: apt-get install python3 python3-venv); found: $$(python3 --version 2>&1)" >&2; \
	exit 1

# The exact version takes a CPU build where there is one; an open range takes gigabytes.
$(VENV)/.torch: $(VENV)/.python $(INPUTS)
	$(PIP) torch==2.13.0
	@touch $@

$(VENV)/.demo: $(VENV)/.torch $(INPUTS)
	$(PIP) --editable ".[demo]"
	@touch $@

$(VENV)/.docs: $(VENV)/.torch $(INPUTS)
	$(PIP) --editable ".[docs]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch $(INPUTS)
	$(PIP) --editable ".[dev]"
	@touch $@
