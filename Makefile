# `make train` and `make test` set up .venv by themselves; nothing else has to be installed before.
#
#   make train      the quick start: train on the embedded digits with the backend that fits
#   make test       everything that must pass: lint, types, tests, conformance, wheel
#   make test-long  two optimiser steps of every recipe, small, on torch and on MLX
#   make quick      lint and the quick tests
#   make docs       write the reference and build the site into site/
#   make recipes    three steps of every CIFAR and event recipe at full size: time and memory
#   make equivalence   the ten-seed test that both backends reach the same accuracy
#   make kill       200 runs killed at random moments, each compared with the unbroken one (RUNS=)
#   make fuzz       100,000 damaged inputs for every reader of files (INPUTS=)
#   make soak       45 minutes of training with a fault every 30 seconds
#   make clean      remove .venv and what the tools left
#
# TORCH overrides the pinned torch, with pip's options if need be: on Linux the default index's
# torch brings the CUDA libraries (several GB), PyTorch's own index has CPU builds:
#   make train TORCH="torch --index-url URL"
# PYTHON names the interpreter that makes .venv; ARGS goes to `snnx train`, or to `make recipes`, `kill`, `fuzz`, `soak`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help train test test-long recipes quick lint types docs equivalence kill fuzz soak clean
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
TORCH ?=
ARGS ?=
MACHINE := $(shell uname -s)-$(shell uname -m)
ifeq ($(MACHINE),Darwin-arm64)
BACKEND := mlx
else
BACKEND := torch
endif

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt

# One worker per core of a small machine, one thread in each.
ONE_THREAD := OMP_NUM_THREADS=1

help:
	@sed -n 's/^#  *\(make .*\)/\1/p' Makefile

$(BIN)/python:
	@for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    if "$$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "making $(VENV) with $$("$$candidate" --version)"; \
	        exec "$$candidate" -m venv $(VENV); \
	    fi; \
	done; \
	echo "snnx needs Python 3.11 or newer, and none of $(PYTHON) python3 python3.13 python3.12" \
	     "python3.11 is one (with its ensurepip module; Debian: python3-venv)." \
	     "Install it, or name it: make train PYTHON=/path/to/python3" >&2; \
	exit 1

# A torch named by hand takes the place of the pinned one, also in a .venv that is there already.
# A build for CUDA brings its own version of these; of what it does not bring, the pin holds.
BROUGHT := triton|nvidia-cuda-nvrtc|nvidia-cuda-runtime
ifneq ($(TORCH),)
$(VENV)/constraints.txt: FORCE
FORCE:
endif
$(VENV)/constraints.txt: constraints.txt | $(BIN)/python
	@grep -vE $(if $(TORCH),'^(torch|$(BROUGHT))==','^$$') constraints.txt > $@
	$(if $(TORCH),$(PIP_INSTALL) $(TORCH))
	@$(if $(TORCH),for name in $(subst |, ,$(BROUGHT)); do \
	    $(BIN)/python -m pip show -q $$name 2> /dev/null || grep "^$$name==" constraints.txt >> $@; \
	done)

$(VENV)/.train: pyproject.toml $(VENV)/constraints.txt
	$(PIP_INSTALL) -e '.[$(BACKEND)]'
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/constraints.txt
	$(PIP_INSTALL) -e '.[torch,mlx,data,test]'
	@touch $@

$(VENV)/.docs: pyproject.toml $(VENV)/constraints.txt
	$(PIP_INSTALL) -e '.[docs]'
	@touch $@

train: $(VENV)/.train
	$(BIN)/snnx train $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/pyright --pythonpath $(BIN)/python

quick: lint
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 -m "not slow and not long" conformance/tests

test: lint types
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 -m "not long"
	$(ONE_THREAD) $(BIN)/snnx conform --backends numpy,torch,mlx
	$(ONE_THREAD) $(BIN)/python conformance/tests/wheel_test.py

test-long: $(VENV)/.test
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 -m long

recipes: $(VENV)/.test
	$(BIN)/python benchmarks/recipes.py $(ARGS)

docs: $(VENV)/.docs
	$(BIN)/python docs/make_reference.py
	$(BIN)/zensical build --clean --strict
	@echo "open site/index.html"

equivalence: $(VENV)/.test
	$(BIN)/python -m snnx_conformance.equivalence

RUNS ?= 200
kill: $(VENV)/.test
	$(ONE_THREAD) $(BIN)/python conformance/tests/kills.py --runs $(RUNS) $(ARGS)

INPUTS ?= 100000
fuzz: $(VENV)/.test
	$(ONE_THREAD) PYTHONPATH=conformance $(BIN)/python -m tests.fuzz --examples $(INPUTS) $(ARGS)

soak: $(VENV)/.test
	$(ONE_THREAD) PYTHONPATH=conformance nice -n 10 $(BIN)/python -m tests.soak $(ARGS)

clean:
	rm -rf $(VENV) build dist site .cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
