#!/bin/sh
# Writes build/sbom.cdx.json (CycloneDX) and build/licences.csv of what is deployed: the packages of requirements.txt,
# installed by their hashes into a throwaway environment. The tool lives there too: nobody else needs it.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=.venv/bin/python
pip="$python -m pip --disable-pip-version-check --quiet"

for name in service tool; do
    $python -m venv --without-pip "$folder/$name"
done
$pip --python "$folder/service/bin/python" install --require-hashes --only-binary :all: --requirement requirements.txt
$pip --python "$folder/tool/bin/python" install --only-binary :all: cyclonedx-bom==7.5.0

mkdir -p build
"$folder/tool/bin/cyclonedx-py" environment "$folder/service/bin/python" --pyproject pyproject.toml \
    --mc-type application --output-reproducible --output-file build/sbom.cdx.json
$python -m tools.licences build/sbom.cdx.json build/licences.csv
