#!/bin/sh
# Writes build/sbom.cdx.json (CycloneDX) and build/licences.csv of what is deployed: the packages of requirements.txt,
# installed by their hashes into a throwaway environment. The tool gets one too: nobody else needs it.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=.venv/bin/python
pip="$python -m pip --disable-pip-version-check --quiet"

install() {
    $python -m venv --without-pip "$folder/$1"
    $pip --python "$folder/$1/bin/python" install --require-hashes --only-binary :all: --requirement "$2"
}

install service requirements.txt
install tool requirements-sbom.txt

mkdir -p build
"$folder/tool/bin/cyclonedx-py" environment "$folder/service/bin/python" --pyproject pyproject.toml \
    --mc-type application --output-reproducible --output-file build/sbom.cdx.json
$python -m tools.licences build/sbom.cdx.json build/licences.csv
