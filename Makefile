# make demo    run the demo (PORT=8123 chooses the port)
# make test    run the tests, without those that take long (ARGS=tests runs all)
# make check   lint, spelling, types and layers
# make docs    build the documentation site, in build/site
# make servers compare the servers, and write docs/servers.md
# make mutants show that the tests of the guarantees can fail
# make dist    build what is published, and check it
# make newcomer follow the README and the tutorial, with nothing but Python and make
# make replicas run the demo over a PostgreSQL and two standbys of its own (PORT=8123 chooses the port)
# make soak    make a million requests, and many over a server whose connections are ended (ARGS="--mixed 10000")
# make bench   run the benchmarks (BENCHMARKS=slow_clients chooses one)
# make lock    renew requirements/, the releases that all of these install
# make test-newest run the tests with the newest releases, and say what has moved
# make test-all run what takes longer than a change should
# make clean   remove what these have made

PYTHON ?= python3
PORT ?= 8000
ARGS ?=
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PYTEST ?= pytest $(PARALLEL)
VENV := .venv
BIN := $(VENV)/bin
BENCHMARKS ?= costs slow_clients
METADATA := setup.cfg setup.py pyproject.toml
GROUPS := build test check docs release system guarantees

# Exactly what requirements/ has, whatever is the newest; quiet, but for what fails.
define INSTALL
@echo 'Installing requirements/$*.txt ...'
@$(PIP) install --require-hashes --no-build-isolation --requirement requirements/$*.txt
endef
PIP = $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

.PHONY: demo replicas soak test test-all test-newest check docs mutants servers bench dist newcomer lock clean

demo: $(VENV)/.demo
	@$(BIN)/python demo.py --port $(PORT)

replicas: $(VENV)/.test
	@$(BIN)/python -m examples.replicas --port $(PORT)

soak: $(VENV)/.test
	@$(BIN)/python -m tests.soak $(ARGS)

test: $(VENV)/.test
	@$(BIN)/python -m $(PYTEST) $(or $(ARGS),--brief)

test-all: $(VENV)/.test
	@HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest $(ARGS)

test-newest:
	@$(PYTHON) -m tests.newest $(PARALLEL) $(ARGS) || [ $$? -eq 77 ]

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
	@echo 'The site is in build/site: open build/site/index.html'

clean:
	rm -rf $(VENV) .venvs build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

# The project is a path in its own environment, so a change of its sources needs no other installation.
$(VENV)/.demo: $(VENV)/.%: requirements/%.txt $(BIN)/python $(METADATA)
	$(INSTALL)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test $(VENV)/.docs: $(VENV)/.%: requirements/%.txt $(VENV)/.demo
	$(INSTALL)
	@touch $@

$(VENV)/.check $(VENV)/.release $(VENV)/.system: $(VENV)/.%: requirements/%.txt $(VENV)/.test
	$(INSTALL)
	@touch $@

.venvs/bench/.bench: $(METADATA)
	$(PYTHON) -m venv .venvs/bench
	.venvs/bench/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venvs/bench/bin/python -m pip install --quiet --editable . --group bench
	@touch $@

# All at once, so that no two disagree; then a file for each, with what it needs.
COMPILE = .venvs/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-annotate --custom-compile-command 'make lock'
OF_DEMO = pyproject.toml --extra demo --group build
OF_FLOOR = build/floor.in $(foreach name,guarantees drivers system,--group $(name))

lock:
	@$(PYTHON) -m venv .venvs/lock
	@.venvs/lock/bin/python -m pip --quiet --quiet install --upgrade uv
	@mkdir -p build requirements
	@$(COMPILE) $(OF_DEMO) $(GROUPS:%=--group %) --output-file build/lock.txt
	@$(COMPILE) $(OF_DEMO) --constraint build/lock.txt --output-file requirements/demo.txt
	@for name in $(GROUPS); do \
	    $(COMPILE) --group $$name --constraint build/lock.txt --output-file requirements/$$name.txt || exit; \
	done
	@sed -n 's/^ *sqlalchemy >=\([0-9.]*\),.*/sqlalchemy==\1/p' setup.cfg >build/floor.in
	@$(COMPILE) $(OF_FLOOR) --output-file requirements/floor.txt
