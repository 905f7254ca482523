# One command each, on a fresh machine with Python 3.10 to 3.13: everything goes into .venv in this folder.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install -c constraints.txt

# One process for each core, with one thread each: small models are faster so than with all threads in one process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Stamps: an installation is repeated only when what it depends on has changed.
CORE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

TEXT ?= The doctor is in the garden.

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format wheel clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

install: $(CORE) ## Install unitok into .venv, and mend torchaudio where it needs it

demo: $(CORE) ## Speak a sentence (TEXT="…") into out/tts.wav, and draw it in out/tts.png
	@mkdir -p out
	$(BIN)/unitok generate --task tts --text "$(TEXT)" --out out/tts.wav --plot out/tts.png

test: $(DEV) ## Run the tests, on all cores (those marked slow: make test-all)
	$(PYTEST)

test-all: $(DEV) ## Run the slow tests too
	$(PYTEST) -m "slow or not slow"

lint: $(DEV) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(DEV) ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(DEV) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --outdir dist

clean: ## Remove what was built (.venv stays)
	rm -rf dist build .pytest_cache .ruff_cache

$(CORE): pyproject.toml constraints.txt
	@echo "Installing unitok into $(VENV): a minute or two, mostly torch."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	$(BIN)/unitok doctor torchaudio kernels --fix
	@touch $@

$(DEV): $(CORE)
	@echo "Installing the tools for tests and style into $(VENV)."
	$(PIP) -e ".[dev]"
	@touch $@
