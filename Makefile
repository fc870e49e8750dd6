# The commands of this project. They install what they need beyond Python and make: Python packages into .venv,
# Azurite into local_azure/node_modules with the Node.js that comes as a Python package.

LOCAL_DATA ?= .local
ARGS ?=

venv := .venv/.installed
azurite := local_azure/node_modules/.installed
examples := examples/dist/.built
node_tests := $(patsubst %/package-lock.json,%/node_modules/.installed,$(wildcard tests/*/package-lock.json))

# By name, because the cache of pytest, for example, holds third-party code.
sources := trusted_service local_azure clients examples tools $(wildcard *.py)

example_sources := examples/package.json $(wildcard examples/src/* examples/pages/* clients/javascript/src/*)

# This Python makes the virtual environment, whose own Python runs everything else.
bare_python = python=$$(sh tools/find-python.sh $(PYTHON)) && "$$python" -B
python := .venv/bin/python
# Tests mostly wait for upstreams, hence more processes than cores. Each process has its own local Azure.
pytest := pytest -n $${TEST_PROCESSES:-4} --dist loadfile --no-loadscope-reorder
# The tests start hundreds of processes, which share their compiled files.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run run-secretless token cli demo-data test coverage soak mutate test-packages check lint format types walls bandit secrets workflows \
    fix lock sbom clean

## make run      install what is needed, start the local Azure, the service on http://localhost:8000 and the examples
help:
	@sed -n 's/^## //p' Makefile

run: $(venv) $(azurite) $(examples)
	@$(python) -m local_azure.run --data $(LOCAL_DATA)

## make run-secretless  the same without any key, secret or connection string: by managed identity, as on Azure
run-secretless: $(venv) $(azurite) $(examples)
	@$(python) -m local_azure.run --data $(LOCAL_DATA) --managed-identity

## make token    beside make run: print a bearer token and a curl line that uses it (ACCOUNT=bob@contoso.example)
token: $(venv)
	@$(python) -m local_azure.bearer "$(LOCAL_DATA)" "$(or $(strip $(ACCOUNT)),alice@contoso.example)"

## make cli      beside make run: run an operator's command (make cli ARGS="users list")
cli: $(venv)
	@$(python) -m local_azure.cli "$(LOCAL_DATA)" $(ARGS)

## make demo-data beside make run: add 300 users, some blocked, with sessions, tokens and a month of usage
demo-data: $(venv)
	@$(python) -m tools.demo_data "$(LOCAL_DATA)"

## make test     install what is needed and run every test (one of them: make test ARGS="-k sign_in")
test: test-packages
	@$(python) -m $(pytest) $(ARGS)

## make coverage run every test and report what they run; fails where they miss a branch of the access rules
coverage: test-packages
	@sh tools/coverage.sh $(pytest)

test-packages: $(venv) $(azurite) $(examples) $(node_tests)
	@$(python) -m tools.chromium
	@$(python) -m tools.redis

## make soak     fifty users, faults and kills for ten minutes, then a check of every promise (ARGS="--minutes 1")
soak: $(venv) $(azurite)
	@$(python) -m tests.soak $(ARGS)

## make mutate   plant defects in the access rules and report those that no test catches (ARGS="--sample 20 --seed 1")
mutate: $(venv) $(azurite)
	@$(python) -m tools.mutate $(ARGS)

## make check    look for mistakes without running anything: lint, format, types, walls between modules, security
check: lint format types walls bandit secrets workflows

lint: $(venv)
	@$(python) -m ruff check

format: $(venv)
	@$(python) -m ruff format --check

types: $(venv)
	@$(python) -m mypy

walls: $(venv)
	@$(python) -c 'from importlinter.cli import lint_imports_command as check; check()' --no-logo

# Weaknesses in the code. Each exception stands beside its line, with its reason.
bandit: $(venv)
	@$(python) -m bandit --quiet --configfile pyproject.toml --recursive $(sources)

# Secrets in committed files, found without calling the services that they would open.
secrets: $(venv)
	@git ls-files -z | xargs -0 $(python) -m detect_secrets.pre_commit_hook --no-verify

# Weaknesses in the workflows of GitHub Actions and in the settings of Dependabot.
workflows: $(venv)
	@.venv/bin/zizmor --offline --quiet --pedantic --strict-collection .github

## make fix      fix what ruff can fix, then format
fix: $(venv)
	@$(python) -m ruff check --fix; $(python) -m ruff format

## make lock     rewrite the requirements files from pyproject.toml (newer versions: make lock ARGS=--upgrade)
lock: $(venv)
	@sh tools/lock.sh $(ARGS)

## make sbom     write what is deployed, as CycloneDX, and its licences into build/; fails on one that does not fit
sbom: $(venv)
	@sh tools/sbom.sh

## make clean    remove what was installed and built; the data of the local Azure in .local stays
clean:
	@rm -rf .venv local_azure/node_modules tests/*/node_modules examples/node_modules examples/dist
	@rm -rf build *.egg-info
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every command installs the development packages, `make run` too: the local Azure needs some of them (the
# certificate authority, Node.js), and one environment serves all commands.
$(venv): requirements-dev.txt
	@$(bare_python) -m tools.environment

# A new virtual environment does not make Azurite stale: hence the order-only prerequisite.
%/node_modules/.installed: %/package-lock.json | $(venv)
	@$(python) -m tools.node $*

$(examples): $(example_sources) examples/node_modules/.installed
	@$(python) -m tools.bundle $^

# Rebuilds the virtual environment once its Python is gone or has another version, after a system upgrade say.
$(shell $(python) -c 'import gunicorn' 2>/dev/null || rm -f $(venv))
