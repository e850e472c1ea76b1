# Everything a user or a CI machine runs. `make` alone lists the targets.

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
# Which torch, and one more index to find it on. Where the plain package brings CUDA and there is no GPU, set
# TORCH_INDEX to the address of the CPU index that PyTorch's own site gives.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
REPORT := report/index.html

BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.installed
PIP_INSTALL := $(BIN)/pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# The stages' commands name `python`, which must be the environment's.
export PATH := $(BIN):$(PATH)
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DVC_NO_ANALYTICS := 1
export TRL_EXPERIMENTAL_SILENCE := 1
export TOKENIZERS_PARALLELISM := false
# glibc gives freed memory back to the system and faults it in again at every step, which made a GRPO step on a CPU up
# to half as long again (`make bench`). Numbers do not change.
export MALLOC_TRIM_THRESHOLD_ ?= 1073741824
export MALLOC_MMAP_THRESHOLD_ ?= 33554432

.DEFAULT_GOAL := help
.PHONY: help install repro test test-fast slurm-test bench bench-distributions bench-server bench-storage vlm lint format lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## Make the environment (the other targets do so themselves)

repro: $(STAMP) ## Run whatever of the pipeline has changed, and print where the report is
	python -m pipeline.check
	dvc repro
	@echo "Report: $(abspath $(REPORT))"

test: $(STAMP) ## Run all tests
	pytest

test-fast: $(STAMP) ## Run all tests but the slow ones
	pytest -m 'not slow'

# As root, with apt-get: it installs SLURM and PostgreSQL where they are missing, and runs its own daemons.
slurm-test: $(STAMP) ## Test studies on a real SLURM of four nodes, booted on this machine and taken down again
	slurm/dev-cluster install
	pytest -m slurm

bench: $(STAMP) ## Measure how fast training and evaluation go here
	python -m pipeline.bench

bench-distributions: $(STAMP) ## Measure how fast and how large the distributions over selections are at a real model's size
	python -m pipeline.bench_distributions

bench-server: $(STAMP) ## Measure what it costs and saves to share one VLM between 1, 4 and 8 training runs
	python -m pipeline.bench_server

bench-storage: $(STAMP) ## Measure how fast studies hand out trials, by storage and number of workers
	slurm/dev-cluster install
	trap "slurm/dev-postgres down" EXIT; python -m studies.bench_storage --postgresql "$$(slurm/dev-postgres up)"

# A frozen stage does not run, forced or not. `dvc unfreeze` and `dvc freeze` would rewrite dvc.yaml without some of its
# comments, so the one line is changed here; it is changed back even if this fails or is interrupted.
vlm: $(STAMP) ## Train the embedded VLM again (its checkpoint is in git)
	dvc repro prepare
	trap "sed -i 's/^    frozen: false$$/    frozen: true/' dvc.yaml" EXIT; \
	  sed -i 's/^    frozen: true$$/    frozen: false/' dvc.yaml && dvc repro --single-item --force vlm

lint: $(STAMP) ## Check style and types
	ruff check .
	ruff format --check .
	mypy

format: $(STAMP) ## Put imports and layout in order
	ruff check --fix .
	ruff format .

lock: ## Resolve the dependencies anew and write requirements.lock
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) '$(TORCH)' -e '.[dev]'
	head -n 2 requirements.lock > requirements.lock.new
	$(BIN)/pip freeze --exclude-editable | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' >> requirements.lock.new
	mv requirements.lock.new requirements.lock
	touch $(STAMP)

clean: ## Remove the environment and tools' caches; the pipeline's outputs and DVC's cache stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find grip_core pipeline studies tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, but got $$($(PYTHON) --version): make install PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --constraint requirements.lock '$(TORCH)' --editable '.[dev]'
	touch $(STAMP)
