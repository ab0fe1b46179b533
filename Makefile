# Ternery. Two commands on a fresh machine with Python 3.11: `make tour` and `make test`.

PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup tour test check format bench fuzz clean

help:  ## List the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compress.kernels.cpu
	touch $(STAMP)

setup: $(STAMP)  ## Create .venv with everything in it

tour: $(STAMP)  ## Run the main job: push, compress, merge, pull, load into PEFT
	$(BIN)/adapters tour

test: check  ## Run the checks and the whole test suite
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

check: $(STAMP)  ## Run ruff, mypy, the floors and the house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_house.py

format: $(STAMP)  ## Let ruff format and sort
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Run every benchmark; results go to benchmarks/results
	for name in $(basename $(notdir $(wildcard benchmarks/*.py))); do $(BIN)/python -m benchmarks.$$name || exit 1; done

fuzz: $(STAMP)  ## Fuzz the .tern container for ten minutes
	$(BIN)/python -m benchmarks.fuzz_tern --seconds 600

clean:  ## Remove what these targets made
	rm -rf .venv tour .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
