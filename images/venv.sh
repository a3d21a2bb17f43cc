#!/bin/sh
# Make /opt/venv of pyproject's extras and the pins, and its bill of materials: venv.sh "EXTRA …" [TORCH].
# TORCH is a build of PyTorch's own index, such as cpu; without it, the one of PyPI, which brings CUDA.
set -eu
uv venv --quiet /opt/venv
# shellcheck disable=SC2046
uv pip install --quiet --python /opt/venv --compile-bytecode ${2:+--torch-backend="$2"} \
    --constraint constraints.txt --build-constraint constraints.txt \
    --requirement pyproject.toml $(printf -- '--extra %s ' $1)
cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
    --output-file /opt/sbom.json /opt/venv/bin/python
