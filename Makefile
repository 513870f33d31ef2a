# Everything starts here, on a machine that has python3 (3.11 or later) and a package registry.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run test live any-schema rehearsals contract chaos pgbouncer audit sbom test-compose test-install bench bench-transfer bench-growth openapi lint format types check lock clean
help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.venv/installed: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "This needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.13 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: .venv/installed  ## migrate an embedded database and serve on http://127.0.0.1:8000
	@$(BIN)/alembic upgrade head
	@exec $(BIN)/python -m service

# three at a time even on two cores: rehearsals, traffic and servers wait more than they compute
test: .venv/installed  ## the whole suite, on a real PostgreSQL and on SQLite
	$(BIN)/python -m pytest -n 3 --dist worksteal

live: .venv/installed  ## the proofs under traffic and under kills at full size: 1,000,000 rows, 200 kills
	$(BIN)/python -m pytest --full -s tests/end_to_end tests/safely/test_guards.py tests/safely/test_kills.py tests/safely/test_dying_databases.py

any-schema: .venv/installed  ## 60 random changes of a model with everything; each change cut off at each commit
	$(BIN)/python -m pytest --full -s tests/safely/foreign tests/migrations/test_resumed.py tests/safely/test_half_undone.py tests/safely/test_retype.py tests/safely/test_enums.py

rehearsals: .venv/installed  ## the whole chain and ten bad revisions rehearsed, and a backup and back, with 1,000,000 rows
	$(BIN)/python -m pytest --full -s tests/safely/test_rehearse.py tests/safely/test_backup.py

contract: .venv/installed  ## schemathesis against the live service: 5,000 cases and more, on both databases
	$(BIN)/python -m pytest --full -s tests/service/http/test_contract.py

chaos: .venv/installed  ## faults under load: nothing lost, only honest answers; writes docs/reliability.md
	$(BIN)/python -m tests.chaos

pgbouncer: .venv/installed  ## download PgBouncer of two Debian suites into .cache/, for its tests; on Debian
	$(BIN)/python -m tests.pgbouncer_packages

# apart: what these two install is nothing of the service's
.venv/audit-installed: requirements-audit.txt .venv/installed
	$(BIN)/python -m venv .venv/audit
	.venv/audit/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-audit.txt
	@touch $@

audit: .venv/audit-installed  ## ask for known vulnerabilities of the locked dependencies
	@.ci/audit

sbom: .venv/audit-installed  ## write the bill of materials, sbom.cdx.json (CycloneDX), of the locked dependencies
	@.venv/audit/bin/python -W ignore -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml \
	  --mc-type application --output-reproducible --output-format JSON --output-file sbom.cdx.json

test-compose: .venv/installed  ## a real `docker compose up`, where a docker engine answers
	$(BIN)/python -m pytest tests/compose

test-install: .venv/installed  ## `pip install ./safely` into an empty environment, from the package registry
	$(BIN)/python -m pytest tests/install

# apart: where Litestar finds advanced-alchemy it loads it, and the service would be another
.venv/bench-installed: requirements-bench.txt .venv/installed
	$(BIN)/python -m venv .venv/peers
	.venv/peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.txt
	@touch $@

bench: .venv/bench-installed  ## the service beside its peers with 1,000,000 users: requests/s, latency, memory; needs wrk
	$(BIN)/python -m benchmarks.compare $(OPTIONS)

bench-transfer: .venv/installed  ## import and export 1,000,000 people: rows/s beside psql's \copy, and memory
	$(BIN)/python -m benchmarks.transfer

bench-growth: .venv/installed  ## the service with 1,000 to 10,000,000 users, its start, memory and workers; needs wrk
	$(BIN)/python -m benchmarks.growth $(OPTIONS)

openapi: .venv/installed  ## write docs/openapi.json; where clients would break, only with BREAKING=1
	@$(BIN)/python -m tests.openapi $(if $(BREAKING),--breaking)

lint: .venv/installed  ## style: ruff, everything on; and what the revisions would do to a database in use
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m migrations lint

format: .venv/installed  ## let ruff put the code in shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: .venv/installed  ## types: mypy, strict
	$(BIN)/mypy

check: lint types test  ## all of the above

lock: .venv/installed  ## choose the newest versions again and lock them with their hashes
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  pyproject.toml --group dev -o requirements-dev.txt
	cp requirements-dev.txt requirements-build.txt  # the same versions
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  --group build -o requirements-build.txt
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  --group audit -o requirements-audit.txt
	cp requirements-dev.txt requirements-bench.txt  # the same versions
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  pyproject.toml --group bench -o requirements-bench.txt

clean:  ## remove what was installed; the data in .data/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
