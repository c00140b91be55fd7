# Every target makes its own .venv when it is missing. `make` prints this help.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
REPOSITORY ?= model_repository

help: ## Print this help
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export,cpu,server,report,dev]'
	@touch $@

install: $(READY) ## Make .venv with everything in it

check: $(READY) ## Lint, format check, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy export/seresnext_export client/seresnext_client deploy/seresnext_server tests

test: $(READY) ## Run the tests, a real tritonserver included
	$(BIN)/python -m pytest

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) $(REPOSITORY)/seresnext101_*

.PHONY: help install check test clean
