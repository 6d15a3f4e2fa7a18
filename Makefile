# Every command of the project. `make help` lists them; `make run` and `make test` set up what they need by themselves.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
SOURCES := feature_store spark_jobs Simulation plugins dags infra tests benchmarks

.PHONY: help setup run stop status env deploy upload destroy test test-unit test-integration test-e2e test-mwaa drill bench lint \
	secret-scan sbom audit format lock lock-mwaa clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## the Python environment and the jars, nothing else; the second time there is nothing to do
	@sh infra/local/setup.sh

run: setup ## the main job: the stack, the data, the daily DAG, its features online (DATA=path DAY=YYYY-MM-DD)
	@$(PY) -m infra.local run $${DATA:+--data "$$DATA"} $${DAY:+--day "$$DAY"}

stop: ## end every process of the stack; the lake and the tables stay
	@test ! -x $(PY) || $(PY) -m infra.local stop

status: setup ## which parts of the stack are up
	@$(PY) -m infra.local status

env: setup ## export lines for other programs: eval "$(make -s env)"
	@$(PY) -m infra.local env

# On AWS: SETTINGS names another file than infra/aws/settings.yaml, YES=1 agrees to everything.
AWS = $(PY) -m infra.aws $@ $${SETTINGS:+--settings "$$SETTINGS"} $${YES:+--yes}

deploy: setup ## on AWS: the stacks, after showing what would change (SETTINGS=file YES=1)
	@$(AWS)

upload: setup ## on AWS: the code, by content; it comes into use
	@$(AWS)

destroy: setup ## on AWS: delete the stacks, after saying what goes and what stays
	@$(AWS)

# Policy as code over the templates, in an environment of its own: it needs older versions of what the project uses.
CHECKOV := .cache/checkov
$(CHECKOV)/made: infra/aws/checkov.lock | setup
	@rm -rf $(CHECKOV)
	@.venv/bin/uv venv --quiet --python $(PY) $(CHECKOV)
	@.venv/bin/uv pip sync --quiet --require-hashes --python $(CHECKOV)/bin/python infra/aws/checkov.lock
	@touch $@

# Tests that take no notice of each other, on as many cores as there are: each process may start a Spark of 2 GB.
BESIDE_OTHERS := -n logical --maxprocesses 4 --dist loadfile

test: lint ## all tests: lint, unit, integration, end to end
	@status=0; \
	$(PY) -m pytest -m '(e2e or alone) and not drill_only' || status=1; \
	$(PY) -m pytest -m 'not (e2e or alone)' $(BESIDE_OTHERS) || status=1; \
	exit $$status

test-unit: setup ## the tests that need no server and no Spark
	@$(PY) -m pytest -m unit $(BESIDE_OTHERS)

test-integration: setup $(CHECKOV)/made ## the tests with a real Spark, Delta, Cassandra and local AWS
	@$(PY) -m pytest -m integration

test-e2e: setup ## the tests of the whole stack, through Airflow
	@$(PY) -m pytest -m 'e2e and not drill_only'

# Airflow and Python as in the image of Amazon MWAA.
MWAA := .cache/mwaa
MWAA_PYTHON ?= 3.12
$(MWAA)/made: infra/aws/mwaa/tests.lock | setup
	@rm -rf $(MWAA)
	@.venv/bin/uv venv --quiet --python $(MWAA_PYTHON) $(MWAA)
	@.venv/bin/uv pip sync --quiet --require-hashes --python $(MWAA)/bin/python infra/aws/mwaa/tests.lock
	@touch $@

test-mwaa: $(MWAA)/made ## the DAGs and plugins on the Airflow and the Python of Amazon MWAA (MWAA_PYTHON=path of a Python 3.12)
	@$(MWAA)/bin/python -m pytest tests/unit/dags tests/unit/plugins

drill: setup ## the lifecycle faults, one by one, through Airflow
	@$(PY) -m pytest -m drill

bench: setup ## what is measured, beside other ways: a table and build/bench/NAME.json (BENCH=features)
	@$(PY) -m benchmarks $$BENCH

# All that is committed but pictures and locks; the name of a secret, or of what reads one, is none; a fake one says
# `pragma: allowlist secret`.
FILES = $(shell git ls-files -- ':!*.png' ':!*.svg' ':!*.lock')

lint: setup $(CHECKOV)/made ## ruff, mypy, shellcheck; templates, Dockerfile, compose file; licences, secrets
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check --quiet $(SOURCES)
	@.venv/bin/mypy -p feature_store -p spark_jobs -p Simulation -p infra -p feature_store_airflow
	@.venv/bin/shellcheck EMR/*.sh infra/local/*.sh .ci/run
	@.venv/bin/cfn-lint infra/aws/templates/*.yaml
	@$(CHECKOV)/bin/checkov --directory infra/aws/templates --framework cloudformation --quiet --compact --skip-download
	@.venv/bin/hadolint $(shell git ls-files "*Dockerfile")
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yaml
	@.venv/bin/pip-licenses >/dev/null
	@$(MAKE) -s secret-scan

secret-scan: # a part of lint
	@.venv/bin/detect-secrets-hook --exclude-secrets '^(feature-store/keyspaces$$|GetSecretValue\b)' $(FILES)

sbom: setup ## the bill of materials: every package and jar, as build/sbom.json
	@$(PY) -m infra.sbom

audit: setup ## known vulnerabilities of the packages; fails where their public database is out of reach
	@.venv/bin/pip-audit --strict --disable-pip $(patsubst %,--requirement %,$(shell git ls-files '*requirements.lock'))

format: setup ## rewrite the code in the project's format
	@.venv/bin/ruff check --fix --quiet $(SOURCES)
	@.venv/bin/ruff format --quiet $(SOURCES)

# What a node of EMR is: the versions are the same for each architecture, a test says so.
NODE := --python-version 3.11 --python-platform aarch64-manylinux_2_34

lock: setup ## resolve the dependencies anew into requirements.lock, those of nodes, simulation, checkov, Feast too
	@.venv/bin/uv pip compile --quiet pyproject.toml --group local --group dev --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file requirements.lock
	@.venv/bin/uv pip compile --quiet infra/aws/checkov.in --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file infra/aws/checkov.lock
	@.venv/bin/uv pip compile --quiet benchmarks/feast.in --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file benchmarks/feast.lock
	@.venv/bin/uv pip compile --quiet --group node --constraint requirements.lock $(NODE) --only-binary :all: \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade --output-file EMR/requirements.lock
	@.venv/bin/uv pip compile --quiet --group simulation --constraint requirements.lock --python-version 3.11 \
		--python-platform x86_64-manylinux_2_34 --only-binary :all: --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --upgrade --output-file Simulation/requirements.lock

lock-mwaa: setup ## resolve what Airflow needs on Amazon MWAA anew (CONSTRAINTS=the constraints file of its Airflow)
	@for part in requirements tests; do \
	.venv/bin/uv pip compile --quiet infra/aws/mwaa/$$part.in --constraint "$$CONSTRAINTS" --python-version 3.12 \
		--python-platform x86_64-manylinux_2_34 --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade \
		--output-file infra/aws/mwaa/$$part.lock || exit 1; done

clean: stop ## remove the stack's data, the environment and the caches
	@rm -rf .venv .cache .local build
