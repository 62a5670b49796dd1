# Every target makes .venv by itself, once, and again when the locked packages change.
# PYTHON names the interpreter to build it with: make test PYTHON=python3.11

ready := .venv/.ready
bench_ready := .venv/.bench-ready
spark_ready := .venv/.spark-ready
benches = $(basename $(notdir $(filter-out bench/__init__.py,$(wildcard bench/[a-z]*.py)))) $(notdir $(patsubst %/__main__.py,%,$(wildcard bench/[a-z]*/__main__.py)))
pytest := .venv/bin/python -m pytest -n auto --dist worksteal -q -rs

# Containers often set it. The suite starts some hundred processes: each would compile all of Arbiter, and pytest's
# rewritten assertions, again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run test test-unit test-slow test-spark lint format bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(ready) ## seven sample orders and listings judged, then the API on this machine (PORT=8000)
	.venv/bin/arbiter demo $(if $(PORT),--port $(PORT))

test: $(ready) ## all tests but the long runs, with a real PostgreSQL and Valkey
	$(pytest) -m "not slow"

test-unit: $(ready) ## the part that starts no server, within half a minute, with few of the random comparisons
	$(pytest) -m "not slow and not service and not random"

test-slow: $(ready) ## the long kill, fuzz and replay runs
	$(pytest) -m slow

test-spark: $(spark_ready) ## the same findings on Spark, in local mode (needs Java 17 or 21)
	@# One process, one session. Of a Java that lives for two minutes, half would go into compiling itself better.
	JDK_JAVA_OPTIONS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" .venv/bin/python -m pytest -q -rs -m "spark and not random"

lint: $(ready) ## style, types, floors
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: $(ready) ## put the code into our format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: $(bench_ready) ## every benchmark; fails when one is below its bar
	@missed=; for name in $(benches); do \
	  echo "== bench.$$name"; .venv/bin/python -m bench.$$name --check || missed="$$missed $$name"; done; \
	  if [ -n "$$missed" ]; then echo "below the bar:$$missed"; exit 1; fi

lock: ## the locked packages again, from pyproject.toml (needs uv)
	sh requirements/lock

clean: ## remove what was made here
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ready): pyproject.toml .ci/setup requirements/build.txt requirements/dev.txt
	@PYTHON="$(PYTHON)" sh .ci/setup
	@touch $@

$(bench_ready): $(ready) requirements/bench.txt
	.venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/bench.txt
	@touch $@

$(spark_ready): $(ready) requirements/spark.txt
	.venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-build-isolation -r requirements/spark.txt
	@touch $@
