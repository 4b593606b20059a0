# One door: every target sets up what it needs in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# Much of the time is waiting for processes; conftest.py puts the long files first.
SIDE_BY_SIDE := --numprocesses 3 --dist loadfile --no-loadscope-reorder
unexport PYTHONDONTWRITEBYTECODE  # else each of a thousand processes compiles what it imports

SITE := PYTHONPATH=. $(BIN)/zensical build --clean --strict  # the path is for tests/docs/commonmark.py

# A model's process never writes byte code, so that of its own package is written before.
COMPILED := $(BIN)/python -m compileall -q mlopsd probes

define TESTS
$(COMPILED)
$(PYTEST) $(SIDE_BY_SIDE) --ignore tests/chaos
$(PYTEST) tests/chaos  # its promises are in seconds, so it has the machine to itself
endef

# What `make coverage` runs. Over the whole suite it takes far longer: make coverage COVER='--ignore tests/chaos tests'
UNIT = $$($(BIN)/python -m tests.unit)
COVER ?= $(UNIT)

.PHONY: run unit coverage test check docs figures bench chaos soak dist clean

run: $(VENV)/ready
	$(BIN)/mlopsd demo

unit: $(VENV)/ready
	$(PYTEST) $(SIDE_BY_SIDE) $(UNIT)

coverage: $(VENV)/ready
	rm -rf .coverage && mkdir .coverage
	$(BIN)/python -m coverage run -m pytest $(SIDE_BY_SIDE) $(COVER)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test: $(VENV)/ready
	$(TESTS)

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SITE)
	$(TESTS)

docs: $(VENV)/ready
	$(SITE)
	@echo 'open build/docs/index.html'

figures: $(VENV)/ready
	$(BIN)/python -m tests.house.figures

bench: $(VENV)/ready
	$(BIN)/python -m bench

chaos: $(VENV)/ready
	$(BIN)/python -m chaos

soak: $(VENV)/ready
	$(BIN)/python -m chaos.soak

# Extras of mlopsd: `make dist` puts their packages into dist/wheels too.
EXTRAS ?= all

dist: $(VENV)/ready
	rm -rf dist build/fresh
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PIP) wheel --wheel-dir dist/wheels "$$(ls dist/mlopsd-*.whl)[$(EXTRAS)]"
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/python -m pip install --quiet --disable-pip-version-check --no-index --find-links dist/wheels \
		'mlopsd[$(EXTRAS)]'
	cd build && fresh/bin/mlopsd probes
	@echo "copy dist/wheels to a host; there: pip install --no-index --find-links wheels 'mlopsd[$(EXTRAS)]'"

clean:
	rm -rf $(VENV) dist build .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlopsd needs Python 3.11 or newer; name one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'pip>=25.1'  # the first that knows --group
	$(PIP) install --editable '.[all,demo,dev]' --group dev
	touch $@
