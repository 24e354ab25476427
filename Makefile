# Two commands on a fresh machine with git, make and Python 3.11 or newer: `make run` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A uv that is already there, else a pinned one in .cache/uv. Looked up once, when a target first needs it.
UV = $(eval UV := $$(shell tools/uv.sh))$(UV)
RUN = $(UV) run --frozen
PYTEST = $(RUN) pytest
# Processes that share the tests, or 0 for none but pytest's own, which --pdb wants. Each takes whole files, as they
# stand: tests of one file, and mostly of one folder, share gateways and judges.
WORKERS = auto
IN_PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Install everything that development needs into .venv
	$(UV) sync --frozen

.PHONY: run
run: ## Start the gateway and stream a first answer through it; Ctrl-C stops it
	$(UV) run --frozen --no-dev ai-gateway serve --first-call

.PHONY: test
test: setup test-services ## Run all tests but the slow ones and those that need vLLM; ARGS="..." goes to pytest
	$(PYTEST) $(IN_PARALLEL) -m "not slow and not vllm" $(ARGS)

.PHONY: test-slow
test-slow: setup ## Run the slow tests
	$(PYTEST) -m "slow and not vllm" --timeout 600 -o faulthandler_timeout=1200 $(ARGS)

.PHONY: test-vllm
test-vllm: setup ## Run the tests against a real vLLM on the CPU (downloads about 6 GB)
	$(PYTEST) -m vllm --timeout 1800 -o faulthandler_timeout=2400 $(ARGS)

.PHONY: test-uvloop
test-uvloop: setup ## Run the tests with uvloop below asyncio, as in production
	TEST_UVLOOP=1 $(PYTEST) $(IN_PARALLEL) -m "not slow and not vllm" $(ARGS)

.PHONY: test-matrix
test-matrix: ## Run the unit and SDK tests on every supported Python and on the oldest and newest gRPC
	tools/test_matrix.sh $(UV)

.PHONY: test-services
test-services: ## Install Redis and PostgreSQL from Debian's packages, where root can, for the tests that use them
	tools/install_services.sh

.PHONY: test-tools
test-tools: ## Install grpcurl and aimock for the tests that use them (need Go and Node.js)
	tools/install_test_tools.sh

# Only for the run: atheris has wheels for some Pythons and platforms only. `SECONDS` is for each parser.
SECONDS = 60
.PHONY: fuzz
fuzz: ## Fuzz each parser for SECONDS=60; ARGS="openai_stream" only that one
	$(UV) run --isolated --frozen --python 3.11 --with atheris==3.0.0 python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

.PHONY: check
check: lint types imports protos scripts ## Run every check that CI runs, except the tests (make -k check: all of them)

.PHONY: lint
lint: setup ## Check style and formatting, and that uv.lock fits pyproject.toml
	$(UV) lock --check
	$(RUN) ruff check
	$(RUN) ruff format --check

.PHONY: types
types: setup ## Check types
	$(RUN) mypy

.PHONY: imports
imports: setup ## Check that modules import in one direction only
	$(RUN) lint-imports --no-logo

.PHONY: protos
protos: setup ## Check the contract and the code generated from it
	$(RUN) tools/check_protos.sh

.PHONY: scripts
scripts: setup ## Check shell scripts and the Dockerfile
	$(RUN) shellcheck .ci/run tools/*.sh
	$(RUN) hadolint Dockerfile

.PHONY: format
format: setup ## Format protos and Python, mend what can be mended
	$(RUN) buf format -w --path proto/aigateway
	$(RUN) ruff check --fix --exit-zero
	$(RUN) ruff format

.PHONY: generate
generate: setup ## Generate the Python code of the contract, and the blocking client from the asynchronous one
	$(RUN) tools/generate.py
	$(RUN) tools/make_sync.py

.PHONY: proto-release
proto-release: setup ## Make the contract as it stands the one that `make check` compares with
	$(RUN) buf build --exclude-source-info -o proto/released/aigateway.binpb

.PHONY: bench
bench: setup ## Measure CPU, latency and memory against an empty RPC and a bare relay
	$(RUN) python -m bench $(ARGS)

.PHONY: image
image: ## Build the container image
	docker build -t ai-gateway .

.PHONY: clean
clean: ## Remove what the checks and tools left (keeps .venv and the gateway's own data)
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
