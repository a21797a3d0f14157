# make demo   trains a U-Net on drawn moles and shows its report: a few minutes on two cores
# make test   runs the whole test suite
# Both make .venv first. PYTHON=python3.13 make test uses another interpreter.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/python experiments/quickstart.py --workdir runs/demo

test: .venv/tested lint
	$(BIN)/python -m pytest --numprocesses 2 --quiet

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv .jax_cache runs/demo

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seg_jax needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@
