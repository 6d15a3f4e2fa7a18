# Every command of the project. `make help` lists them; `make run` and `make test` set up what they need by themselves.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
SOURCES := feature_store spark_jobs plugins dags infra tests benchmarks

.PHONY: help setup run stop status env test test-unit test-integration test-e2e drill bench lint format lock clean

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

drill: setup ## the lifecycle faults, one by one, through Airflow
	@$(PY) -m pytest -m drill

bench: setup ## what is measured, beside other ways: a table and build/bench/NAME.json (BENCH=features)
	@$(PY) -m benchmarks $$BENCH

lint: setup $(CHECKOV)/made ## ruff, mypy, shellcheck; cfn-lint and checkov over the templates
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check --quiet $(SOURCES)
	@.venv/bin/mypy -p feature_store -p spark_jobs -p infra -p feature_store_airflow
	@.venv/bin/shellcheck EMR/*.sh infra/local/*.sh .ci/run
	@.venv/bin/cfn-lint infra/aws/templates/*.yaml
	@$(CHECKOV)/bin/checkov --directory infra/aws/templates --framework cloudformation --quiet --compact --skip-download

format: setup ## rewrite the code in the project's format
	@.venv/bin/ruff check --fix --quiet $(SOURCES)
	@.venv/bin/ruff format --quiet $(SOURCES)

lock: setup ## resolve the dependencies anew into requirements.lock, and checkov's into its own
	@.venv/bin/uv pip compile --quiet pyproject.toml --group local --group dev --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file requirements.lock
	@.venv/bin/uv pip compile --quiet infra/aws/checkov.in --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade --output-file infra/aws/checkov.lock

clean: stop ## remove the stack's data, the environment and the caches
	@rm -rf .venv .cache .local build
