#!/bin/sh
# Writes the requirements files anew, but for the last one from pyproject.toml; arguments (such as --upgrade) go to uv.
# uv lives in a throwaway folder: nobody but this script needs it.
set -eu

uv=$(mktemp -d)
trap 'rm -rf "$uv"' EXIT
.venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$uv" uv==0.13.9

compile() {
    PYTHONPATH="$uv" .venv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --custom-compile-command "make lock" "$@"
}

compile pyproject.toml --output-file requirements.txt "$@"
# The same versions in both files: what is tested is what is deployed.
compile pyproject.toml --output-file requirements-dev.txt --extra dev --constraints requirements.txt "$@"
# `make sbom` alone needs it, in an environment of its own.
echo cyclonedx-bom | compile - --output-file requirements-sbom.txt "$@"
