# Everything runs in .venv, which each target makes by itself. PYTHON picks the interpreter it is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PACKAGES := actors flows layerprint scoring storage
CODE := $(PACKAGES) tests benchmarks examples

# Tests with services wait more than they compute: two files at a time, in their order, since a process has one Ray for
# all its files and the tests of pools need all of it. AT_ONCE= runs one file after the other.
AT_ONCE ?= -n 2 --dist loadfile --no-loadscope-reorder

# Nothing is reported to anyone, from any target.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-services check format docs bench stack-up stack-down stack-status constraints clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Make .venv and install layerprint with its tools

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "layerprint needs Python 3.11 or newer: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## Tell a memorizing generator from honest ones, on real digits (about two minutes)
	$(BIN)/layerprint demo

test: setup ## Run all tests: real Ray, real S3 server, real Prefect
	$(BIN)/pytest $(AT_ONCE) --durations=10

test-fast: setup ## Run the tests that need no service, and the doctests (about a minute)
	$(BIN)/pytest -m "not service and not slow"

test-services: setup ## Run the tests that `make test-fast` leaves out
	$(BIN)/pytest $(AT_ONCE) -m "service or slow" --durations=10 $(TESTS)

check: setup ## Format, lint, types, import arrows
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Rewrite the code in the project's format
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

docs: setup ## Build the documentation as a site: site/index.html
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d site/.doctrees . site

bench: setup ## Measure, half an hour on a quiet machine; DATA=folder adds the benchmarks on real generators
	$(BIN)/python -m benchmarks.embedding
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.repeated
	$(BIN)/python -m benchmarks.driver
	$(BIN)/python -m benchmarks.scheduler
	$(BIN)/python -m benchmarks.calibration --quick
	$(if $(DATA),$(BIN)/python -m benchmarks.codec_parity $(DATA))
	$(if $(DATA),$(BIN)/python -m benchmarks.mnist_generators $(DATA))
	$(if $(DATA),$(BIN)/python -m benchmarks.attribution --curves $(DATA)/published_ct_curves.csv --images $(DATA))

stack-up: setup ## Start object store, Ray, Prefect server and worker on this machine
	@$(BIN)/layerprint stack up

stack-down: setup ## End what stack-up started
	@$(BIN)/layerprint stack down

stack-status: setup ## What of the stack runs
	@$(BIN)/layerprint stack status

constraints: ## Resolve constraints.txt anew from the ranges in pyproject.toml
	rm -rf .venv-constraints
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
	.venv-constraints/bin/pip check
	.venv-constraints/bin/pip freeze --exclude-editable > constraints.txt
	rm -rf .venv-constraints

clean: ## Remove .venv, caches, the site and the demo's folder
	rm -rf $(VENV) site docs/commands.md docs/api/modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info layerprint-demo
