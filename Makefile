# The README's two commands are `make demo` and `make test`. Each sets up .venv by itself.
#
#   PYTHON=python3.12      the interpreter (>= 3.10) that .venv is made from
#   TORCH_INDEX=URL        where torch and torchvision come from, for instance the address of CPU-only wheels
#   PIP_EXTRA_ARGS="..."   more arguments for pip
#   PARALLEL=              runs the tests one after the other, in one process
#   JOBS=2 NAMES="a b"     which checkpoints are trained, and how many side by side
#   SEEDS=2                also the numbers of a second seed

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PIP_EXTRA_ARGS ?=
PYTEST_ARGS ?=
JOBS ?= 1
SEEDS ?= 1
NAMES ?=
PARALLEL ?= --numprocesses auto --dist worksteal

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint bench checkpoints readme docs clean

help:
	@echo "make demo         train a GAN on Fashion-MNIST for three minutes, save it, load it, sample from it"
	@echo "make test         lint and the default tests"
	@echo "make test-all     the slow tests too"
	@echo "make lint         ruff and mypy"
	@echo "make bench        the table of benchmarks"
	@echo "make checkpoints  train and measure the recipes without a checkpoint (hours); JOBS=2 side by side, NAMES='...' these, SEEDS=2 seeds"
	@echo "make readme       bring the numbers and images of the checkpoints into the README, and write docs/equations.md"
	@echo "make docs         build the documentation into build/docs; warnings are errors"
	@echo "make clean        remove .venv, caches and build products; runs/ and checkpoints/ stay"

setup: $(STAMP)

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "$(PYTHON) is missing or older than Python 3.10. Install a newer one (Debian, Ubuntu:"; \
	    echo "apt-get install python3 python3-venv) or name it: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
	    $(PYTHON) -m venv --clear --without-pip $(VENV) 2>/dev/null \
	    && $(PYTHON) -m pip --python $(PY) install --quiet pip 2>/dev/null; } || { rm -rf $(VENV); \
	    echo "$(PYTHON) cannot make a virtual environment with pip in it. On Debian and Ubuntu:"; \
	    echo "apt-get install python3-venv"; exit 1; }

$(STAMP): pyproject.toml | $(PY)
	@echo "Setting up $(VENV). The first time, torch is a large download (up to 3 GB on Linux); TORCH_INDEX="
	@echo "may name an index of CPU-only wheels, which are a tenth of that."
	$(if $(TORCH_INDEX),$(PY) -m pip install $(PIP_EXTRA_ARGS) --index-url $(TORCH_INDEX) "torch>=2.6" "torchvision>=0.21")
	@[ -t 1 ] || quiet=--quiet; $(PY) -m pip install $$quiet $(PIP_EXTRA_ARGS) --editable ".[dev]"
	@touch $@

demo: $(STAMP)
	$(PY) -m zoo.demo

test: lint
	$(PY) -m pytest $(PARALLEL) -m "not slow" $(PYTEST_ARGS)

test-all: lint
	$(PY) -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: $(STAMP)
	@echo "| benchmark | goal | measured | met |"; echo "|---|---|---|---|"
	@for script in tests/benchmarks/bench_*.py; do $(PY) $$script || exit 1; done

checkpoints: $(STAMP)
	$(PY) -m zoo.checkpoint_training --jobs $(JOBS) --seeds $(SEEDS) $(NAMES)
	$(PY) tests/packaging/readme_tables.py

readme: $(STAMP)
	$(PY) tests/packaging/readme_tables.py
	$(PY) -m tests.packaging.equations_page

$(DOCS_STAMP): $(STAMP)
	$(PY) -m pip install --quiet $(PIP_EXTRA_ARGS) --editable ".[docs]"
	@touch $@

docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
