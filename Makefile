# The commands of this project. Everything they need beyond Python and make is installed by themselves:
# Python packages into .venv, Azurite into local_azure/node_modules with the Node.js that comes as a Python package.

LOCAL_DATA ?= .local
ARGS ?=

venv := .venv/.installed
azurite := local_azure/node_modules/.installed
examples := examples/dist/.built
# The tests may bring Node.js packages of their own.
node_tests := $(patsubst %/package-lock.json,%/node_modules/.installed,$(wildcard tests/*/package-lock.json))

# What runs, by name: the cache of pytest, for one, holds other people's code.
sources := trusted_service local_azure clients examples tools $(wildcard *.py)

example_sources := examples/package.json $(wildcard examples/src/* examples/pages/* clients/javascript/src/*)

# The bare Python that makes the virtual environment; from then on its own Python runs everything.
bare_python = python=$$(sh tools/find-python.sh $(PYTHON)) && "$$python" -B
python := .venv/bin/python

.PHONY: help run test soak check lint format types walls bandit secrets fix lock clean

## make run      install what is needed, start the local Azure, the service on http://localhost:8000 and the examples
help:
	@sed -n 's/^## //p' Makefile

run: $(venv) $(azurite) $(examples)
	@$(python) -m local_azure.run --data $(LOCAL_DATA)

## make test     install what is needed and run every test (one of them: make test ARGS="-k sign_in")
test: $(venv) $(azurite) $(examples) $(node_tests)
	@$(python) -m tools.chromium
	@$(python) -m tools.redis
	@sh tools/test.sh $(ARGS)

## make soak     fifty users, faults and kills for ten minutes, then every promise looked at (ARGS="--minutes 1")
soak: $(venv) $(azurite)
	@$(python) -m tests.soak $(ARGS)

## make check    look for mistakes without running anything: lint, format, types, walls between modules, security
check: lint format types walls bandit secrets

lint: $(venv)
	@$(python) -m ruff check

format: $(venv)
	@$(python) -m ruff format --check

types: $(venv)
	@$(python) -m mypy

walls: $(venv)
	@$(python) -c 'from importlinter.cli import lint_imports_command as check; check()' --no-logo

# Weaknesses in what runs. An exception stands beside its line, with its reason.
bandit: $(venv)
	@$(python) -m bandit --quiet --configfile pyproject.toml --recursive $(sources)

# Secrets in anything that is committed; it asks nobody whether what it finds is good. Exceptions likewise.
secrets: $(venv)
	@git ls-files -z | xargs -0 $(python) -m detect_secrets.pre_commit_hook --no-verify

## make fix      mend what ruff can mend, then format
fix: $(venv)
	@$(python) -m ruff check --fix; $(python) -m ruff format

## make lock     write both requirements files anew from pyproject.toml (newer versions: make lock ARGS=--upgrade)
lock: $(venv)
	@sh tools/lock.sh $(ARGS)

## make clean    remove what was installed and built; the data of the local Azure in .local stays
clean:
	@rm -rf .venv local_azure/node_modules tests/*/node_modules examples/node_modules examples/dist
	@rm -rf build *.egg-info
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every command installs the development packages, `make run` too: the local Azure is made of some of
# them (the certificate authority, Node.js), and one environment serves all commands.
$(venv): requirements-dev.txt
	@$(bare_python) -m tools.environment

# A new virtual environment does not make Azurite stale: hence the order-only prerequisite.
%/node_modules/.installed: %/package-lock.json | $(venv)
	@$(python) -m tools.node $*

$(examples): $(example_sources) examples/node_modules/.installed
	@$(python) -m tools.bundle $^

# A virtual environment is of no use once its Python is gone or has another version (after an upgrade of
# the system, say): its stamp goes, so that it is made anew.
$(shell $(python) -c 'import gunicorn' 2>/dev/null || rm -f $(venv))
