# Nextpage from a clone. Needed: Python 3.11 or 3.12, make, a C compiler. Every target makes .venv itself when it is absent,
# or when pyproject.toml or constraints.txt have changed since.
#
#   PYTHON=python3.12     the interpreter .venv is made with
#   PIP_FIND_LINKS=DIR    a folder or page of wheels, looked at beside the index
#   PIP_INDEX_URL=URL     the index, where it is not PyPI

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
INDEX := $(addprefix --find-links=,$(PIP_FIND_LINKS)) $(addprefix --default-index=,$(PIP_INDEX_URL))

# Libraries of the pipeline send usage figures unless told not to.
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format compile images images-pin images-check chart chart-test chart-verify clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Make .venv; the other targets do so too.

# uv comes from the same constraints file. Where it cannot install, pip is asked. The stubs of TensorRT would bring
# TensorRT itself, which is no package of the index.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 13) or sys.exit(f"Nextpage needs Python 3.11 or 3.12, \
	{sys.executable} is {sys.version.split()[0]}: name another by make PYTHON=python3.12")'
	@echo "Setting up .venv: about 200 packages, one to three minutes, once."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(BIN)/uv pip install $$(test -t 2 || echo --quiet) --python $(BIN)/python --system-certs --compile-bytecode $(INDEX) \
		--constraint constraints.txt --build-constraint constraints.txt --editable '.[dev]' \
	|| { echo "uv could not install: trying pip."; \
		PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps tensorrt-stubs
	@touch $@

demo: $(READY) ## Run the pipeline on The Complete Journey, then A/B tests of its release: all under runs/demo.
	$(BIN)/nextpage run --name demo
	$(BIN)/nextpage experiment runs/demo

test: $(READY) ## Run the tests.
	$(BIN)/python -m pytest

lint: $(READY) ## Check style, format, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY) ## Put imports and format in order.
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

compile: $(READY) ## Write the pipelines as YAML under build/pipelines.
	$(BIN)/nextpage compile --output build/pipelines

images: $(READY) ## Build the images; REGISTRY=… pushes them and writes build/images/digests.yaml; TORCH=cpu trains without CUDA.
	$(BIN)/python images/build.py $(addprefix --registry=,$(REGISTRY)) $(addprefix --torch=,$(TORCH)) $(IMAGES)

images-pin: $(READY) ## Ask registries for the digests of the images' bases and write them into images/bases.yaml.
	$(BIN)/python images/pin.py

images-check: $(READY) ## Install each image's dependencies by themselves and import what it runs; IMAGES=control: of some.
	$(BIN)/python -m images.check $(IMAGES)

chart: $(READY) ## Put the compiled pipelines into the Helm chart, images by DIGESTS=…, and pack it under build/.
	$(addprefix NEXTPAGE_DIGESTS=,$(DIGESTS)) $(BIN)/nextpage compile --output charts/nextpage/files/pipelines
	$$($(BIN)/python -m tests.charts.helm | head -n 1)/helm package charts/nextpage --destination build

chart-test: $(READY) ## Run the chart's tests with real Helm 3 and Helm 4 (make test runs them too).
	$(BIN)/python -m pytest tests/charts

chart-verify: $(READY) ## Ask a cluster's API server for a dry run: KUBECONFIG=… NAMESPACE=… VALUES="-f mine.yaml"
	$(BIN)/nextpage compile --output charts/nextpage/files/pipelines
	tools=$$($(BIN)/python -m tests.charts.helm | head -n 1) && PATH="$$PATH:$$tools" $(BIN)/python charts/verify.py \
		--kubeconfig $(or $(KUBECONFIG),$(HOME)/.kube/config) --namespace $(or $(NAMESPACE),nextpage) $(VALUES)

clean: ## Remove caches and build outputs; .venv and runs/ stay.
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
