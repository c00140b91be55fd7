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
	$(COMPOSE) run --rm engine --onnx $(ONNX) --repository $(REPOSITORY) $(ENGINE_OPTIONS)

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

# docker. PROFILES="gpu monitoring tls" says what; the variables of deploy/compose.yaml how.
PROFILES ?= cpu
SECRETS ?= deploy/secrets
COMPOSE = REPOSITORY=$(abspath $(REPOSITORY)) SECRETS=$(abspath $(SECRETS)) docker compose --env-file deploy/triton.env --file deploy/compose.yaml
RUNNING = $(COMPOSE) --profile '*'
CANDIDATE = candidate-$(if $(filter gpu,$(PROFILES)),gpu,cpu)
up: $(SECRETS)/admin_key $(SECRETS)/tls.crt ## Serve with docker (PROFILES="cpu|gpu monitoring tls")
	$(COMPOSE) $(PROFILES:%=--profile %) up --build --detach --wait

down: ## Stop what `make up` started
	$(RUNNING) down

logs: ## Follow the logs of what `make up` started
	$(RUNNING) logs --follow

smoke: $(READY) $(SECRETS)/admin_key ## Try what the repository holds now in a second server, before it is served
	$(COMPOSE) up --build --detach --wait $(CANDIDATE)
	$(BIN)/seresnext-export smoke --repository $(REPOSITORY) --url localhost:9001; status=$$?; \
		$(COMPOSE) rm --stop --force $(CANDIDATE); exit $$status

image: ## Build the image of the server (PILLOW=simd: faster decoding, for CPUs with AVX2)
	$(COMPOSE) --profile cpu build

sdk: $(SECRETS)/admin_key ## Measure what `make up` serves from NVIDIA's SDK image
	$(COMPOSE) run --rm sdk $(PICTURES) $(BENCHMARK_OPTIONS)

# Readable by the users of the containers, which are not ours; the folder is not.
$(SECRETS)/admin_key:
	@mkdir -p -m 700 $(SECRETS)
	openssl rand -hex 32 > $@

$(SECRETS)/tls.crt:
	@mkdir -p -m 700 $(SECRETS)
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
		-addext subjectAltName=DNS:localhost -keyout $(SECRETS)/tls.key -out $@
	chmod 644 $(SECRETS)/tls.key

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

.PHONY: help demo export engine lint serve benchmark up down logs smoke image sdk install check test soak clean
