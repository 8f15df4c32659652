# make demo   one command from a fresh clone to a private adapter and its report
# make test   install with the development tools, then everything in `check`
# make slow   the tests marked slow
.DEFAULT_GOAL := help
SHELL := bash

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough; `make PYTHON=/path/to/python demo` chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && { echo $$p; break; }; done)
# Where torch comes from; for a small CPU build: TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INPUTS := pyproject.toml setup.py constraints.txt
# Two workers pay off from two cores on; each keeps torch to one thread.
WORKERS ?= 2
DEMO_FLAGS ?=
# As in --threads 2
BENCH_FLAGS ?=

.PHONY: help install demo test check format lint types layers docs fast slow bench wheel lock \
  fuzz audit-dependencies clean

help:
	@sed -n '1,3s/^# //p' Makefile

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "Expected python version=3.11, 3.12 or 3.13 on the PATH, found none of them." >&2; \
	  echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi
	@echo "Creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Torch first and by itself: it is by far the largest download and may have an index of its own.
$(VENV)/.torch.stamp: constraints.txt | $(BIN)/python
	@echo "Installing torch (once, some minutes)"
	@$(PIP) install -c constraints.txt setuptools wheel
	@$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.install.stamp: $(INPUTS) $(VENV)/.torch.stamp
	@echo "Installing dpft"
	@$(PIP) install -c constraints.txt --no-build-isolation -e .
	@touch $@

$(VENV)/.dev.stamp: $(INPUTS) $(VENV)/.torch.stamp
	@echo "Installing dpft with the development tools"
	@$(PIP) install -c constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@ $(VENV)/.install.stamp

install: $(VENV)/.install.stamp

demo: $(VENV)/.install.stamp
	@$(BIN)/python -m dpft demo $(DEMO_FLAGS)

test: $(VENV)/.dev.stamp
	@$(MAKE) --no-print-directory check

check: format lint types layers docs fast

format: $(VENV)/.dev.stamp
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev.stamp
	$(BIN)/ruff check .

types: $(VENV)/.dev.stamp
	$(BIN)/mypy

layers: $(VENV)/.dev.stamp
	$(BIN)/lint-imports

# The site, in build/docs; every warning is an error, and all of them are shown.
docs: $(VENV)/.dev.stamp
	HF_HUB_OFFLINE=1 $(BIN)/sphinx-build --quiet -E -W --keep-going docs build/docs

fast: $(VENV)/.dev.stamp
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

slow: $(VENV)/.dev.stamp
	$(BIN)/pytest -m slow

# Ratios to the plain step and to the plain loop; hours on a small machine, best left alone with it.
bench: $(VENV)/.install.stamp
	$(BIN)/python -m benchmarks.step $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.grid --no-memory $(BENCH_FLAGS)
	for data in sst2 mnli e2e dart; do \
	  $(BIN)/python -m benchmarks.epoch --data $$data $(BENCH_FLAGS) || exit 1; \
	done
	$(BIN)/python -m benchmarks.growth $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.overhead

# The wheel of the last commit, in dist. Times, modes and folders are fixed, so that whoever builds
# it again with the releases of constraints.txt gets the same bytes.
wheel: $(VENV)/.dev.stamp
	rm -rf build/wheel && mkdir -p build/wheel
	umask 022 && git archive HEAD | tar -x -C build/wheel && \
	  SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
	  $(BIN)/python -m build --wheel --no-isolation --outdir dist build/wheel
	sha256sum dist/*.whl

# Hashes of what constraints.txt names, as PyPI states them, in requirements.lock.
lock: $(BIN)/python
	$(BIN)/python .ci/lock.py

# Known faults of what constraints.txt names. Needs the network, and pip-audit in an environment of
# its own, which is no dependency of anything here. What cannot be looked up is an error, not a pass.
audit-dependencies: $(BIN)/python
	@test -x $(VENV)/audit/bin/pip-audit || { $(BIN)/python -m venv $(VENV)/audit && \
	  $(VENV)/audit/bin/python -m pip --disable-pip-version-check --quiet install "pip-audit>=2.9,<3"; }
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

# Parsers of files that strangers may write: 100,000 inputs each, and with atheris, led by coverage.
fuzz: $(VENV)/.dev.stamp
	$(BIN)/pytest -m "slow or not slow" tests/fuzz

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .grimp_cache \
	  .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
