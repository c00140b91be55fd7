# `make` prints what there is. What a target needs is installed into .venv first.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreter that .venv is created with; deploy/select_python.sh chooses one where it is empty.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
# Extras of pyproject.toml: with an NVIDIA GPU EXTRAS=export,gpu,server; without the embedded server EXTRAS=export,cpu.
EXTRAS ?= export,cpu,server
INSTALLED := $(VENV)/.installed-$(EXTRAS)
INSTALLED_DEV := $(INSTALLED)+dev

REPOSITORY ?= model_repository
CHECKPOINT ?=
FORMATS ?= torchscript onnx
# The image of the demo. The client expands the pattern; scikit-image and matplotlib bring images with them.
SAMPLE ?= $(SITE)/matplotlib/mpl-data/sample_data/grace_hopper.jpg
SAMPLES ?= $(SAMPLE) $(addprefix $(SITE)/skimage/data/,astronaut.png chelsea.png coffee.png rocket.jpg)
SITE = $(VENV)/lib/python3*/site-packages
TESTS ?=
SECRETS ?= deploy/secrets
CANDIDATE_GRPC_PORT ?= 9001

# Recipes read what may hold spaces or quotes from their environment: "$$REPOSITORY".
export PYTHON CHECKPOINT REPOSITORY SAMPLE SECRETS CANDIDATE_GRPC_PORT

BUILD = $(BIN)/seresnext-export build --repository "$$REPOSITORY" $(FORMATS:%=--format %)
BUILD_FROM_CHECKPOINT = $(BUILD) $${CHECKPOINT:+--checkpoint "$$CHECKPOINT"}
# Serves on free ports while a command runs.
SERVE = $(BIN)/seresnext-serve --repository "$$REPOSITORY" --http-port 0 --grpc-port 0 --metrics-port 0 --

help: ## Print this help
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26

demo: $(INSTALLED) ## Classify an image (SAMPLE=…) with a real Triton server
	@if [ -n "$$CHECKPOINT" ]; then $(BUILD_FROM_CHECKPOINT); \
	elif [ -e "$$REPOSITORY/seresnext101_preprocess/config.pbtxt" ]; then \
		echo "serving $$REPOSITORY as it is; make demo CHECKPOINT=ngc builds it from NVIDIA's checkpoint" >&2; \
	else $(BUILD) --or-random; fi
	@$(SERVE) $(BIN)/seresnext-client classify "$$SAMPLE"

export: $(INSTALLED) ## Build the model repository (CHECKPOINT=ngc|random|PATH|URL, FORMATS=…)
	$(BUILD_FROM_CHECKPOINT)

serve: $(INSTALLED) ## Serve the model repository with the embedded Triton
	$(BIN)/seresnext-serve --repository "$$REPOSITORY"

check-repository: $(INSTALLED) ## Check the model repository for what a server would refuse
	$(BIN)/seresnext-export check --repository "$$REPOSITORY"

# SERESNEXT_URL names a server that runs already.
benchmark: $(INSTALLED) ## Measure with perf_analyzer and write results/report.html (SAMPLES=…, BENCHMARK_OPTIONS=…)
	$(if $(SERESNEXT_URL),,$(SERVE)) $(BIN)/seresnext-client benchmark $(SAMPLES) $(BENCHMARK_OPTIONS)

# docker. PROFILES names services, the variables of deploy/compose.yaml (HTTP_PORT=…, MODEL=…) configure them.
PROFILES ?= cpu
CANDIDATE = candidate-$(if $(filter gpu,$(PROFILES)),gpu,cpu)
COMPOSE = REPOSITORY="$$(realpath "$$REPOSITORY")" SECRETS="$$(realpath "$$SECRETS")" \
	docker compose --env-file deploy/triton.env --file deploy/compose.yaml
# What the containers mount is read by their users, whatever the umask was when it was written.
MAKE_READABLE = find "$$REPOSITORY" deploy/monitoring deploy/nginx \
	\( ! -perm -o=r -o -type d ! -perm -o=x \) -exec chmod o+rX {} +

up: docker secrets ## Serve with docker (PROFILES="cpu|gpu monitoring tls")
	@$(MAKE_READABLE)
	$(COMPOSE) $(PROFILES:%=--profile %) up --build --detach --wait

down: docker ## Stop what `make up` started
	$(COMPOSE) --profile '*' down

logs: docker ## Follow the logs of what `make up` started
	$(COMPOSE) --profile '*' logs --follow

smoke: docker secrets $(INSTALLED) ## Try what the repository holds in a second server, before it is served
	@$(MAKE_READABLE)
	$(COMPOSE) up --build --detach --wait $(CANDIDATE)
	$(BIN)/seresnext-export smoke --repository "$$REPOSITORY" --url "localhost:$$CANDIDATE_GRPC_PORT"; status=$$?; \
		$(COMPOSE) rm --stop --force $(CANDIDATE); exit $$status

image: docker ## Build the container images of the server, without and with the model repository (MODELS_TAG=…)
	@[ -e "$$REPOSITORY/seresnext101_preprocess/config.pbtxt" ] || { \
		echo "error: no model repository in $$REPOSITORY: make export" >&2; exit 3; }
	@$(MAKE_READABLE)
	$(COMPOSE) --profile cpu --profile models build

sdk: docker secrets ## Measure what `make up` serves, from NVIDIA's SDK container (SAMPLES=…, BENCHMARK_OPTIONS=…)
	$(COMPOSE) run --rm sdk $(SAMPLES) $(BENCHMARK_OPTIONS)

# The graph is exported here, on the CPU; the engine is built where its GPU and its TensorRT are, without torch.
GRAPH ?= .cache/engine/seresnext101_onnx/1/model.onnx
engine: docker $(GRAPH) ## Build a TensorRT engine in NVIDIA's container (GRAPH=…, ENGINE_OPTIONS=…)
	$(COMPOSE) run --rm engine $(GRAPH) --repository "$$REPOSITORY" $(ENGINE_OPTIONS)

.cache/engine/seresnext101_onnx/1/model.onnx: | $(INSTALLED)
	$(BIN)/seresnext-export build --repository .cache/engine --format onnx --precision fp16 \
		$${CHECKPOINT:+--checkpoint "$$CHECKPOINT"}

docker:
	@docker compose version >/dev/null 2>&1 || { \
		echo 'error: needs docker and its compose plugin: https://docs.docker.com/engine/install' >&2; exit 4; }

# The files are readable by the users of the containers, whose ids differ; the folder is private.
secrets: | docker
	@mkdir -p -m 700 "$$SECRETS"
	@cd "$$SECRETS" && { [ -s admin_key ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > admin_key; }
	@cd "$$SECRETS" && chmod 644 admin_key
ifneq (,$(filter tls,$(PROFILES)))
	@cd "$$SECRETS" && { [ -s tls.crt ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
		-days 365 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout tls.key -out tls.crt; }
	@cd "$$SECRETS" && chmod 644 tls.key tls.crt
endif

install: $(INSTALLED) ## Make .venv with what the demo needs (EXTRAS=…, PYTHON=…)

install-dev: $(INSTALLED_DEV) ## Make .venv with the development tools too

$(INSTALLED): pyproject.toml constraints.txt
	@deploy/install.sh $(VENV) '$(EXTRAS)'

$(INSTALLED_DEV): pyproject.toml constraints.txt
	@deploy/install.sh $(VENV) '$(EXTRAS)' dev

lint: $(INSTALLED_DEV) ## Check lint, formatting, types, and the generated parts of the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy export client/seresnext_client deploy/seresnext_server tests
	$(BIN)/python tests/tools/docs.py

format: $(INSTALLED_DEV) ## Format the code, and fix what lint can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(INSTALLED_DEV) ## Run the tests, with a full-size build and a real tritonserver (TESTS="FILE -k NAME")
	$(BIN)/python -m pytest $(TESTS)

test-fast: $(INSTALLED_DEV) ## Run the unit tests, on all cores
	$(BIN)/python -m pytest --numprocesses auto tests/unit

soak: $(INSTALLED_DEV) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m soak $(TESTS)

DOCS := $(VENV)/.installed-docs
$(DOCS): pyproject.toml constraints.txt | $(INSTALLED_DEV)
	$(BIN)/python -m pip install --constraint constraints.txt --group docs
	@touch $@

docs: $(DOCS) ## Build the documentation into docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs docs/_build/html

dist: $(INSTALLED_DEV) ## Build the wheel and the source distribution into dist
	$(BIN)/python -m build

# Universal: one file for Python 3.11 to 3.14. Pins that still fit are kept; UV_OPTIONS=--upgrade renews all.
constraints: ## Pin the dependencies in constraints.txt anew (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra export --extra cpu --extra server \
		--extra report --extra s3 --extra gs --extra az --extra hf --group dev --group docs --group bulk --no-annotate --custom-compile-command 'make constraints' \
		--output-file constraints.txt $(UV_OPTIONS)

clean: ## Remove .venv and caches
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache dist docs/_build

distclean: clean ## Remove the model repository's models, results and keys too
	rm -rf "$$REPOSITORY"/seresnext101_* results
	cd "$$SECRETS" 2>/dev/null && rm -f admin_key tls.crt tls.key || true

.PHONY: help demo export serve check-repository benchmark up down logs smoke image sdk engine docker secrets install \
	install-dev lint format test test-fast soak docs dist constraints clean distclean
