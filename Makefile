# streamrec: make help lists what can be done.

PYTHON ?= python3
BIN := .venv/bin
RUN_STATE ?= runs/movielens-100k
KAFKA_PORT ?= 9092
KAFKA_DATA ?=
PYTEST_WORKERS ?= 2
MINUTES ?= 30
SEEDS ?= 1000
SEED ?=

.DEFAULT_GOAL := help
.PHONY: help setup run kafka kafka-stop test torture check lint types architecture docs pages results bench soak clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/ready ## make the virtual environment and compile the kernels into a cache

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "streamrec needs Python >= 3.11, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m streamrec.warm
	@touch $@

run: setup ## stream MovieLens-100K through the whole program; run again to resume
	@$(BIN)/streamrec demo --state $(RUN_STATE)

kafka: ## start Apache Kafka on 127.0.0.1:9092 (KAFKA_PORT, KAFKA_DATA); needs Java 17 and Maven
	@$(PYTHON) deploy/kafka/node.py start --port $(KAFKA_PORT) $(if $(KAFKA_DATA),--data "$(KAFKA_DATA)")

kafka-stop: ## stop it; its records stay
	@$(PYTHON) deploy/kafka/node.py stop --port $(KAFKA_PORT) $(if $(KAFKA_DATA),--data "$(KAFKA_DATA)")

test: setup ## run all tests
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile

torture: setup ## run the long forms of the faults; needs what test needs, and an hour
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile -m torture tests/kafka tests/faults

simulate: setup ## the daemon's loop in SEEDS simulated worlds (1000), or again in one: SEED=123
	@$(BIN)/python tests/simulator/run_seeds.py $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

check: lint types architecture docs ## lint, types, architecture, documentation

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

architecture: setup
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m pytest tests/docs

pages: setup ## write docs/settings.md, docs/cli.md and docs/metrics-reference.md anew from the code
	$(BIN)/python tests/docs/pages.py
	$(BIN)/python -m streamrec.metric_table > docs/metrics-reference.md

results: setup ## measure every data set and write docs/results.md
	$(BIN)/python bench/results.py

bench: setup ## run all benchmarks and print one JSON
	$(BIN)/python bench/all.py

soak: setup ## the daemon for MINUTES (30), ended now and then: memory, files and threads stay flat?
	$(BIN)/python bench/soak.py --minutes $(MINUTES)

clean: ## remove the virtual environment, caches and run states
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
