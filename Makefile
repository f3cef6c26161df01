# make demo   train MNIST through a server, start to end, on this machine
# make test   everything that CI checks
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
# Empty, to take the newest versions that pyproject.toml allows: make CONSTRAINTS= test
CONSTRAINTS ?= constraints.txt
# --no-compile: a module is compiled when first imported, and most of those that come with torch never are.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off --no-compile $(addprefix -c ,$(CONSTRAINTS))

# Tests of a module share what it starts, so they go to one worker; two workers share two cores with servers and trainers.
PYTEST  := $(BIN)/python -m pytest -n 2 --dist loadscope

.PHONY: help demo serve test test-all test-fast bench mutants lint format types cov protos constraints hooks clean
.DEFAULT_GOAL := help

help: ## Show what there is to make.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# One stamp for each set of extras, newer than what says its versions once the set is installed.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.server: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(INSTALL) -e '.[server,cli]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	$(INSTALL) -e '.[server,cli,dev]'
	@touch $@ $(VENV)/.server

demo: $(VENV)/.server ## Train MNIST through a server, with a live progress bar.
	@exec $(BIN)/python examples/demo.py

serve: $(VENV)/.server ## Start a server on this machine.
	@exec $(BIN)/lab-server serve

test: lint test-all ## Check style, types and protos, and run all tests.

test-all: $(VENV)/.dev ## Run all tests, two at a time.
	$(PYTEST)

test-fast: $(VENV)/.dev ## Run the tests that are not marked slow, two at a time.
	$(PYTEST) -m 'not slow and not exhaustive'

lint: types ## Check style, types, protos and the Dockerfile.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint protos
	$(BIN)/hadolint Dockerfile

bench: $(VENV)/.dev ## Measure what matters, in one table; needs an idle machine.
	$(BIN)/python benchmarks/bench.py --json bench.json

mutants: $(VENV)/.dev ## List the changes of the code that no test notices; ONLY=pace for one module.
	@nice -n 19 $(BIN)/python tools/mutants.py $(ONLY)

types: $(VENV)/.dev ## Check types with mypy --strict.
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code, and fix what ruff can fix by itself.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

cov: $(VENV)/.dev ## Run all tests and show which lines and branches they miss.
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-report=html

protos: $(VENV)/.dev ## Generate the Python modules of protos/.
	cd protos && $(abspath $(BIN))/python -m grpc_tools.protoc -I . --plugin=protoc-gen-mypy=$(abspath $(BIN))/protoc-gen-mypy \
	  --python_out=. --mypy_out=quiet:. lab_rpc/v1/*.proto
	cd protos && $(abspath $(BIN))/python -m grpc_tools.protoc -I . --plugin=protoc-gen-mypy_grpc=$(abspath $(BIN))/protoc-gen-mypy_grpc \
	  --grpc_python_out=. --mypy_grpc_out=quiet:. lab_rpc/v1/*_service.proto

constraints: $(VENV)/.dev ## Renew constraints.txt: the newest versions that pyproject.toml allows.
	$(BIN)/python tools/lock_constraints.py

hooks: $(VENV)/.dev ## Check style before each commit, types before each push.
	$(BIN)/pre-commit install --hook-type pre-commit --hook-type pre-push

clean: ## Remove what make made.
	rm -rf .venv .venv-* .mutants dist build htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
