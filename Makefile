# make demo    run the demo (PORT=8123 chooses the port)
# make test    run the tests
# make check   lint, spelling, types and layers
# make docs    build the documentation site, in build/site
# make servers compare the servers, and write docs/servers.md
# make mutants show that the tests of the guarantees can fail
# make dist    build what is published, and check it
# make newcomer follow the README and the tutorial, with nothing but Python and make
# make bench   run the benchmarks (BENCHMARKS=slow_clients chooses one)
# make test-all run what takes longer than a change should
# make clean   remove what these have made

PYTHON ?= python3
PORT ?= 8000
PYTEST ?= pytest
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
BENCHMARKS ?= costs slow_clients
METADATA := setup.cfg pyproject.toml

.PHONY: demo test test-all check docs mutants servers bench dist newcomer clean

demo: $(VENV)/.demo
	@$(BIN)/python demo.py --port $(PORT)

test: $(VENV)/.test
	@$(BIN)/python -m $(PYTEST) $(ARGS)

test-all: $(VENV)/.test
	@HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest $(ARGS)

mutants: $(VENV)/.test
	@$(BIN)/python -m tests.mutants $(ARGS)

servers: $(VENV)/.test
	@$(BIN)/python -m tests.servers

bench: .venvs/bench/.bench
	@for name in $(BENCHMARKS); do .venvs/bench/bin/python -m benchmarks.$$name || exit; done

# From a clone: what is published is what is committed.
dist: $(VENV)/.release
	@rm -rf build dist
	@git clone --quiet . build/source
	$(BIN)/check-sdist --installer pip --source-dir build/source
	$(BIN)/python -m build --outdir dist build/source
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents --package build/source/wsgi_session dist
	cd build/source && $(CURDIR)/$(BIN)/python -m tests.installed $(CURDIR)/dist/*.whl

newcomer:
	@$(PYTHON) -m tests.newcomer

check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	@$(BIN)/sphinx-build -q -W --keep-going -E -d build/doctrees docs build/site

clean:
	rm -rf $(VENV) .venvs build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.demo: $(BIN)/python $(METADATA)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group check
	@touch $@

$(VENV)/.release: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group release
	@touch $@

$(VENV)/.docs: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@

.venvs/bench/.bench: $(METADATA)
	$(PYTHON) -m venv .venvs/bench
	.venvs/bench/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venvs/bench/bin/python -m pip install --quiet --editable . --group bench
	@touch $@
