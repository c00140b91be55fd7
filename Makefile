# Every target makes its own .venv when it is missing. `make` prints this help.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SITE = $(wildcard $(VENV)/lib/python3.*/site-packages)

include deploy/triton.env

REPOSITORY ?= model_repository
CHECKPOINT ?=
FORMATS ?= torchscript onnx
IMAGE ?= $(SITE)/matplotlib/mpl-data/sample_data/grace_hopper.jpg
BUILD = $(BIN)/seresnext-export build --repository $(REPOSITORY) $(FORMATS:%=--format %)

help: ## Print this help
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(READY) $(if $(CHECKPOINT),export,$(REPOSITORY)/seresnext101_preprocess/config.pbtxt) ## Classify a photograph (IMAGE=…) with a real Triton server
	@$(BIN)/seresnext-serve --repository $(REPOSITORY) --http-port 0 --grpc-port 0 --metrics-port 0 -- $(BIN)/seresnext-client classify '$(IMAGE)'

# Only where there is no repository yet: one that was built from a checkpoint is never replaced by the demo's.
$(REPOSITORY)/seresnext101_preprocess/config.pbtxt: | $(READY)
	@$(BUILD) --or-random

export: $(READY) ## Build the model repository (CHECKPOINT=ngc|random|PATH|URL, FORMATS=…)
	$(BUILD) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

# The graph is made here, on the CPU; the engine where its TensorRT and its GPU are, without torch.
ONNX ?= .cache/engine/seresnext101_onnx/1/model.onnx
engine: $(ONNX) ## Build a TensorRT engine in NVIDIA's container (ONNX=…, ENGINE_OPTIONS=…)
	docker run --rm --gpus all --volume "$(CURDIR):/work" --workdir /work $(TENSORRT_IMAGE) deploy/engine.sh --onnx $(ONNX) --repository $(REPOSITORY) $(ENGINE_OPTIONS)

.cache/engine/seresnext101_onnx/1/model.onnx: | $(READY)
	$(BIN)/seresnext-export build --format onnx --precision fp16 --repository .cache/engine $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

lint: $(READY) ## Find what a server would stumble over in the model repository
	$(BIN)/seresnext-export check --repository $(REPOSITORY)

serve: $(READY) ## Serve the model repository with the embedded Triton
	$(BIN)/seresnext-serve --repository $(REPOSITORY)

# Photographs, in turn; a server of its own measures what is served here, SERESNEXT_URL another one.
PICTURES ?= $(IMAGE) $(addprefix $(SITE)/skimage/data/,astronaut.png chelsea.png coffee.png rocket.jpg)
BENCHMARK = $(BIN)/seresnext-client benchmark $(PICTURES) $(BENCHMARK_OPTIONS)
benchmark: $(REPOSITORY)/seresnext101_preprocess/config.pbtxt ## Measure with perf_analyzer and write results/report.html (BENCHMARK_OPTIONS=…)
	$(if $(SERESNEXT_URL),,$(BIN)/seresnext-serve --repository $(REPOSITORY) --http-port 0 --grpc-port 0 --metrics-port 0 --) $(BENCHMARK)

install: $(READY) ## Make .venv with everything in it

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export,cpu,server,report,dev]'
	@touch $@

check: $(READY) ## Lint, formatting, types, the README's --help texts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy export client/seresnext_client deploy/seresnext_server tests
	$(BIN)/python tests/readme.py

test: $(READY) ## Run the tests, with a full-size build and a real tritonserver
	$(BIN)/python -m pytest

soak: $(READY) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m soak

clean: ## Remove .venv and everything that was built
	rm -rf $(VENV) $(REPOSITORY)/seresnext101_*

.PHONY: help demo export engine lint serve benchmark install check test soak clean
