# One door: every target sets up what it needs in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile  # most of the time is waiting for processes

SITE := PYTHONPATH=. $(BIN)/zensical build --clean --strict  # the path is for tests/docs/commonmark.py

define TESTS
$(PYTEST) $(SIDE_BY_SIDE) --ignore tests/chaos
$(PYTEST) tests/chaos  # its promises are in seconds, so it has the machine to itself
endef

.PHONY: run test check docs figures bench chaos soak clean

run: $(VENV)/ready
	$(BIN)/mlopsd demo

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

clean:
	rm -rf $(VENV) dist build .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlopsd needs Python 3.11 or newer; name one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
