# make demo   train MNIST through a server, start to end, on this machine
# make test   everything that CI checks
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test bench lint protos serve clean help
.DEFAULT_GOAL := help

help: ## Say what there is to make.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A stamp a set of extras, newer than pyproject.toml when the set is installed.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.server: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off -e '.[server,cli]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off -e '.[server,cli,dev]'
	@touch $@ $(VENV)/.server

demo: $(VENV)/.server ## Train MNIST through a server, with a live progress bar.
	@exec $(BIN)/python examples/demo.py

serve: $(VENV)/.server ## Start a server on this machine.
	@exec $(BIN)/lab-server serve

test: lint ## Check style, types and protos, and run all tests.
	$(BIN)/python -m pytest

lint: $(VENV)/.dev ## Check style, types, protos and the Dockerfile.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/buf lint protos
	$(BIN)/hadolint Dockerfile

bench: $(VENV)/.dev ## Measure what matters, in one table; needs an idle machine, 15 minutes.
	$(BIN)/python benchmarks/bench.py --json bench.json

protos: $(VENV)/.dev ## Generate the Python modules of protos/.
	cd protos && $(abspath $(BIN))/python -m grpc_tools.protoc -I . --plugin=protoc-gen-mypy=$(abspath $(BIN))/protoc-gen-mypy \
	  --python_out=. --mypy_out=quiet:. lab_rpc/v1/*.proto
	cd protos && $(abspath $(BIN))/python -m grpc_tools.protoc -I . --plugin=protoc-gen-mypy_grpc=$(abspath $(BIN))/protoc-gen-mypy_grpc \
	  --grpc_python_out=. --mypy_grpc_out=quiet:. lab_rpc/v1/training_service.proto

clean: ## Remove what make made.
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
