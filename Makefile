# Everything a person or CI runs. `make` alone lists the targets. GNU make 3.81 is enough (macOS).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON  ?= python3
HOST    ?= 127.0.0.1
PORT    ?= 8000
BACKEND ?=
RUNTIME ?=
TORCH   ?= $(shell nvidia-smi -L 2>/dev/null | grep -q ^GPU && echo pypi || echo cpu)
TIER    ?= unit integration e2e
EPOCHS  ?= 8

BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install $(if $(MAKE_TERMOUT),,--quiet)
# Every requirements file is complete, hence --no-deps. The bindings use our own llama.cpp: nothing to compile.
LOCKED := CMAKE_ARGS=-DLLAMA_BUILD=OFF $(PIP) --no-deps --require-hashes
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup setup-train lock build build-metal build-cpu build-cuda serve test test-docker test-long check fetch finetune evaluate quantize export demo bench
# Two pips in one environment would break it.
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---- environment -------------------------------------------------------------------------------

setup: .venv/.base ## make .venv with what serving needs

setup-train: .venv/.base .venv/.train ## add torch and transformers (1 GB; with CUDA 5 GB)

lock: .venv/.base ## write requirements/*.txt anew from pyproject.toml
	@$(PIP) uv==0.13.8
	scripts/lock_requirements.sh

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON). Mend it with: sudo apt-get install python3 python3-venv (macOS: brew install python)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old; Corral needs 3.11 or newer. Mend it with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments. Mend it with: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.base: requirements/base.txt pyproject.toml | .venv/bin/python
	@echo "setup: installing what serving needs" >&2
	@$(LOCKED) -r $<
	@$(PIP) --no-deps --editable .
	@touch $@

.venv/.data .venv/.dev: .venv/.%: requirements/%.txt | .venv/.base
	@echo "setup: installing the $* group" >&2
	@$(LOCKED) -r $<
	@touch $@

# Without a GPU, PyTorch's CPU build where pip knows a place that has it. PyPI's torch for Linux asks for
# CUDA libraries, the CPU build and the one for macOS do not: docs/adr/0003-torch-two-ways.md.
.venv/.train: requirements/train.txt requirements/torch.txt requirements/torch-cpu.txt requirements/torch-cuda.txt | .venv/.base
	@echo "setup: installing the train group" >&2
	@$(LOCKED) -r requirements/train.txt
	@if [ "$(TORCH)" != cpu ] || ! $(LOCKED) -r requirements/torch-cpu.txt 2>/dev/null; then \
	  echo "setup: installing PyPI's torch" >&2; $(LOCKED) -r requirements/torch.txt; fi
	@if $(BIN)/python -c 'from importlib.metadata import requires as r; raise SystemExit(not any("cuda" in d for d in r("torch")))'; then \
	  echo "setup: installing the CUDA libraries for torch (3 GB)" >&2; $(LOCKED) -r requirements/torch-cuda.txt; fi
	@touch $@

# ---- llama.cpp ---------------------------------------------------------------------------------

build: .venv/.base ## build llama.cpp for this machine, or BACKEND=cpu|cuda|metal|vulkan
	@BACKEND=$(BACKEND) scripts/build_llama.sh

build-metal: .venv/.base ## build llama.cpp for Apple GPUs (macOS)
	@BACKEND=metal scripts/build_llama.sh

# ---- images ------------------------------------------------------------------------------------

# BASE, CUDA_ARCHITECTURES, TORCH, PIP_CONF, JOBS, ENGINE go to the script, which explains them.
build-cpu: ## build the container images corral:cpu and corral-trainer:cpu
	@scripts/build_image.sh cpu

build-cuda: ## build corral:cuda and corral-trainer:cuda, for NVIDIA GPUs; CUDA_ARCHITECTURES=90 for these only
	@scripts/build_image.sh cuda

# ---- serve -------------------------------------------------------------------------------------

serve: ## serve the bundled model on http://HOST:PORT, from the image just built or natively; RUNTIME=native|docker forces
	@HOST=$(HOST) PORT=$(PORT) RUNTIME=$(RUNTIME) BACKEND=$(BACKEND) exec scripts/serve.sh

# ---- tests -------------------------------------------------------------------------------------

# What each tier gives pytest: -n where tests are many and small.
unit        := -n auto tests/unit tests/test_docs.py
integration := -n auto tests/integration
e2e         := tests/e2e

# run_tier <name> <pytest's arguments>: runs a tier and prints how long it took
define run_tier
	@start=$$SECONDS; echo "== $(1)"; $(BIN)/python -m pytest -p tests.no_skips -q $(2); echo "== $(1): passed in $$((SECONDS - start)) s"

endef

test: .venv/.base .venv/.data .venv/.dev $(if $(filter e2e,$(TIER)),.venv/.train build) ## run the tests; TIER=unit|integration|e2e for one of them
	$(if $(filter e2e,$(TIER)),@PYTHON=$(BIN)/python tests/clients/make_env.sh dspy pydantic-ai)
	$(foreach tier,$(TIER),$(call run_tier,$(tier),$($(tier))))

# Needs an engine with BuildKit, and debootstrap and root where no registry has the base image.
test-docker: .venv/.base .venv/.data .venv/.dev ## build the CPU images from a clean context and run them; a skip fails
	$(call run_tier,docker,tests/docker)

test-docker: export CI = true

test-long: .venv/.base .venv/.data .venv/.dev .venv/.train build ## crash matrix, soaks, fuzz, trainings: minutes to hours
	$(call run_tier,long,tests/long tests/training)

# ---- code --------------------------------------------------------------------------------------

check: .venv/.base .venv/.data .venv/.dev ## formatting, lint, types, shell scripts; FIX=1 mends what it can
	$(if $(FIX),$(BIN)/ruff format && $(BIN)/ruff check --fix)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run $$(git ls-files --cached --others --exclude-standard '*.sh')

# ---- the loop ----------------------------------------------------------------------------------

fetch: .venv/.base build ## get a model: HF_REPO=owner/name [HF_FILE=…], or ARGS="--url … --sha256 …"
	@$(BIN)/corral models pull $(if $(HF_REPO),--hf-repo $(HF_REPO)) $(if $(HF_FILE),--hf-file $(HF_FILE)) $(ARGS)

finetune: .venv/.base .venv/.data .venv/.train build ## train an adapter: MODEL=NAME DATA=rows.jsonl [ARGS=…]
	@$(BIN)/corral finetune create --model $(MODEL) --file $(DATA) $(ARGS)

evaluate: .venv/.base .venv/.data build ## measure a model on held-out rows: MODEL=NAME DATA=rows.jsonl [ARGS="--against NAME"]
	@$(BIN)/corral evaluate --model $(MODEL) --file $(DATA) $(ARGS)

quantize: .venv/.base .venv/.data build ## quantise and measure: MODEL=NAME TYPE="Q8_0 Q4_K_M" [ARGS=…]
	@$(BIN)/corral models quantize $(MODEL) $(TYPE) $(ARGS)

export: .venv/.base .venv/.data build ## hand a model to another app: MODEL=NAME TO=gpt4all|lmstudio|ollama|folder [ARGS=…]
	@$(BIN)/corral models export $(MODEL) --to $(TO) $(ARGS)

demo: .venv/.base .venv/.data .venv/.dev .venv/.train build ## the whole loop offline on the bundled model, by OpenAI's SDK: before and after; EPOCHS=8
	@EPOCHS=$(EPOCHS) scripts/demo.sh

bench: .venv/.base .venv/.data .venv/.dev build ## Corral beside its peers in one run: LITELLM=program BINDINGS=python BIG=model.gguf name what else takes part
	@$(BIN)/python -m bench.serving $(if $(LITELLM),--litellm $(LITELLM)) $(if $(BINDINGS),--bindings $(BINDINGS)) $(if $(BIG),--big $(BIG)) $(ARGS)
