.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# What is imported is compiled then, and kept: compiling all 24,000 files takes longer than the rest.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE
SHARED ?= ../shared/data
# On two cores: many tests wait for sockets.
TEST_WORKERS ?= 3
# Of the tests' order; make shows it with the command, and SEED=... runs the same order again.
SEED ?= $(shell $(PYTHON) -c 'import random; print(random.randrange(2**32))')

.PHONY: help setup demo test test-fast export check lint types imports fmt cov clean \
	bench bench-transform bench-client bench-rewrite bench-import bench-scale bench-quality bench-recipe \
	bench-drift bench-fit bench-tuning bench-labels bench-platforms bench-approximate bench-proxy bench-soak bench-faults bench-hostile bench-synthesize bench-text bench-breaks bench-second-look

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

demo: .venv/.demo  ## the main job on real data, end to end
	$(BIN)/trimtab demo

test: .venv/.test  ## every test, in random order; COV=1 measures what they reach, slowly
	$(BIN)/python -m pytest -q -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --randomly-seed=$(SEED) \
	  $(if $(COV),--cov --cov-report=term-missing:skip-covered)

test-fast: .venv/.test  ## unit tests only
	$(BIN)/python -m pytest -q --randomly-seed=$(SEED) tests/unit

export: .venv/.demo  ## build every models/NAME that has a recipe.toml
	$(BIN)/trimtab build models

setup: .venv/.test  ## the environment for development

check: lint types imports  ## everything that needs no test run

lint: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.test
	$(BIN)/mypy

imports: .venv/.test
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

fmt: .venv/.test  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

cov:  ## lines and branches that no test reaches; fails below 90 %
	$(MAKE) test COV=1

bench: bench-transform bench-client bench-rewrite bench-import bench-scale bench-quality  ## every benchmark

bench-transform: .venv/.test  ## one transform against numpy and torch
	$(BIN)/python benchmarks/transform/run.py

bench-client: .venv/.test  ## what the adapted Qdrant client adds to a query
	$(BIN)/python benchmarks/client/run.py

bench-rewrite: .venv/.test  ## 100,000 generated requests, each checked; the time of one
	$(BIN)/python benchmarks/rewrite/run.py

bench-import: .venv/.test  ## import time and memory of the runtime
	$(BIN)/python benchmarks/import/run.py

bench-scale: .venv/.test  ## a fit on a million documents, in bounded memory
	$(BIN)/python benchmarks/scale/run.py

bench-quality: .venv/.test  ## every rival and Trimtab on every dataset in SHARED; hours, resumes
	$(BIN)/python benchmarks/quality/run.py --data $(SHARED)

bench-drift: .venv/.test  ## queries far from the training queries: a set's own against others'
	$(BIN)/python benchmarks/drift/run.py --data $(SHARED)

bench-approximate: .venv/.test  ## recall of HNSW and IVF for raw and for adapted queries
	$(BIN)/python benchmarks/approximate/run.py --data $(SHARED)

bench-platforms: .venv/.test  ## which extra can be installed on which system; asks a package index
	$(PIP) uv
	$(BIN)/python benchmarks/platforms/run.py

bench-proxy: .venv/.test  ## what the sidecar adds, beside nginx and Envoy; half an hour, alone
	$(PIP) -r benchmarks/proxy/requirements.txt
	$(BIN)/python benchmarks/proxy/run.py

bench-soak: .venv/.test  ## mixed load with a reload every second, in six ways; 65 minutes, resumes
	$(BIN)/python benchmarks/reliability/soak.py

bench-faults: .venv/.test  ## what a client sees of each fault behind the sidecar, in six ways; resumes
	$(BIN)/python benchmarks/reliability/faults.py

bench-hostile: .venv/.test  ## 100,000 malformed or hostile requests in each of six ways; resumes
	$(BIN)/python benchmarks/hostile/run.py

bench-text: .venv/.test  ## what a text costs, and what texts do to vector queries beside them
	$(BIN)/python benchmarks/text/run.py

bench-breaks: .venv/.test  ## each mend taken away on purpose: whether a test notices; half an hour
	$(BIN)/python benchmarks/breaks/run.py

bench-synthesize: .venv/.test  ## queries that a small LLM writes here, beside real labels; resumes
	$(PIP) -r benchmarks/synthesize/requirements.txt
	$(BIN)/python benchmarks/synthesize/run.py

bench-fit: .venv/.test  ## what a default fit costs; RIVAL=CHECKOUT beside another version's
	$(BIN)/python benchmarks/fit/run.py --data $(SHARED) $(if $(RIVAL),--rival $(RIVAL))

bench-tuning: .venv/.test  ## the encoder of queries tuned, beside a default fit, on the sets in SHARED; hours, resumes
	$(BIN)/python benchmarks/tuning/run.py --data $(SHARED) --sets hpo_lay scifact llamaindex_10k

bench-second-look: .venv/.test  ## the best 100 documents put in order once more, on the sets in SHARED; hours, resumes
	$(BIN)/python benchmarks/second_look/run.py --data $(SHARED)

bench-labels: .venv/.test  ## default fits of 50 to 500 labels on the sets in SHARED; an hour
	$(BIN)/python benchmarks/labels/run.py --data $(SHARED)

bench-recipe: .venv/.test  ## one knob at a time on the sets in SHARED; over an hour
	$(BIN)/python benchmarks/recipe/run.py --data $(SHARED)

clean:  ## remove what set-up and runs have made
	rm -rf .venv demo build *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The pip that Python 3.11 brings takes minutes to look through the releases of all that is pinned.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(PIP) pip

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[demo]'
	@touch $@

.venv/.test: .venv/bin/python pyproject.toml constraints.txt tests/support/js/package-lock.json
	$(PIP) -e '.[test]'
	@if command -v npm >/dev/null; then cd tests/support/js && npm ci --silent \
	  || echo "npm ci failed: the JavaScript client's tests will skip"; fi
	@touch $@ .venv/.demo
