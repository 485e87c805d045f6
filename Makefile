# make run: run the plugin on its sandbox at http://127.0.0.1:8000
# make test: run ruff, mypy and every test, except the tests of nginx if nginx is missing
# make quick: run ruff, mypy and the tests that need no process of their own (3 minutes)
# make lowest: run the tests of make quick on the lowest versions that setup.cfg allows
# make clients: generate clients in eight languages, and try them (docs/clients.md)
# make browser: open Swagger UI in a real browser
# make docs: build the pages of docs/ as a site in build/site, and check their links
# make bench: measure the plugin beside others (benchmarks/README.md)
# make profiles: write profiles of get, add and page (benchmarks/README.md)
# make bench-stores: measure 1, 100 and 10,000 stores (5 minutes)
# make bystanders: measure the cost of the entry points for other projects (benchmarks/README.md)
# make fuzz: send generated requests and replies (15 minutes on two cores)
# make soak: run the long runs of docs/evidence.md (20 minutes)
# make simulate: play 100,000 simulated histories (10 minutes), or print one with SEED=n
# make simulate-planted: plant defects, each of which a simulated history has to show (10 minutes)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
IN_PROCESS := $(addprefix tests/,unit web client stores sandbox cli simulation)
PORT ?= 8000
URL := http://127.0.0.1:$(PORT)
API := $(URL)/api/json/v1/ecwid

.PHONY: run test quick lint in-process lowest clients browser docs fuzz fuzz-requests fuzz-documents bench profiles bench-stores bystanders soak simulate simulate-planted clean
.PHONY: has-nginx has-wrk has-npm has-chromium

# For a program: the Debian package that has it.
has = @PATH="$$PATH:/usr/sbin" command -v $(1) > /dev/null \
  || { echo "$(1) is missing: install Debian's $(2)" >&2; exit 1; }
has-nginx: ; $(call has,nginx,nginx-light)
has-wrk: ; $(call has,wrk,wrk)
has-npm:
	$(call has,npm,npm)
	@node --eval 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' \
	  || { echo 'Node.js 20 or newer is needed: Debian 13 has it as nodejs' >&2; exit 1; }
has-chromium: ; $(call has,chromium,chromium)

run: $(VENV)/.run
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2> /dev/null \
	  || { echo 'Port $(PORT) is taken. Choose another port: make run PORT='$$(($(PORT) + 1)) >&2; exit 1; }
	@printf '%s\n' \
	  'The plugin runs on its sandbox. The data is new after each start. Ctrl-C stops the server.' \
	  'Swagger UI: $(API)/ui/' \
	  '' \
	  "curl '$(API)/customers?limit=2'" \
	  "curl '$(API)/customer/172890169'" \
	  "curl '$(API)/add_customer' -H 'Content-Type: application/json' -d '{\"email\": \"new@example.com\"}'" \
	  "curl '$(API)/update_customer/172890169' -H 'Content-Type: application/json' -d '{\"acceptMarketing\": false}'" \
	  "curl -X POST '$(API)/delete_customer/172890169'" \
	  ''
	ECWID_SANDBOX=on $(BIN)/gunicorn --bind 127.0.0.1:$(PORT) wsgi:app

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

quick: lint in-process

# Four workers for two cores, because many tests wait for a deadline.
in-process: $(VENV)/.installed
	$(BIN)/python -m pytest -n 4 --dist loadscope $(IN_PROCESS)

test: lint
	SIMULATED_HISTORIES=2000 $(BIN)/python -m pytest -n 4 --dist loadscope --cov --cov-report=term

# uv installs the lowest versions, which pip cannot. mypy is left out, because old versions have
# fewer types.
lowest:
	rm -rf .lowest
	$(PYTHON) -m venv .lowest
	.lowest/bin/python $(PIP_INSTALL) uv
	.lowest/bin/uv pip install --quiet --python .lowest --resolution lowest-direct --editable '.[quick]'
	@touch .lowest/.created .lowest/.installed
	$(MAKE) --no-print-directory in-process VENV=.lowest

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

fuzz: $(VENV)/.installed
	$(MAKE) --no-print-directory --jobs=2 --output-sync fuzz-requests fuzz-documents

fuzz-requests: $(VENV)/.installed
	FUZZ=much $(BIN)/python -m pytest -rP --show-capture=stdout tests/e2e/test_fuzz_requests.py

fuzz-documents: $(VENV)/.installed
	FUZZ=much $(BIN)/python -m pytest -rP --show-capture=stdout tests/e2e/test_fuzz_json.py tests/e2e/test_fuzz_replies.py

clients: has-npm $(VENV)/.clients clients/node_modules/.installed
	$(BIN)/python -m pytest tests/e2e/test_python_client.py clients --ignore clients/test_browser.py

browser: has-chromium $(VENV)/.clients
	$(BIN)/python -m pytest clients/test_browser.py

soak: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.soak $(SOAK)

simulate: $(VENV)/.installed
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--histories 100000 --jobs 2)

simulate-planted: $(VENV)/.installed
	$(BIN)/python -m tests.simulation.defects

ENVIRONMENTS := benchmarks/.environments

bench: has-nginx has-wrk $(ENVIRONMENTS)/.installed
	$(ENVIRONMENTS)/rivals/bin/python benchmarks/run.py $(BENCH)

profiles: FOLDER = benchmarks/results/profiles/after
profiles: SOURCE = .
profiles: has-nginx $(ENVIRONMENTS)/.installed
	$(ENVIRONMENTS)/rivals/bin/python benchmarks/profiles.py $(FOLDER) --source $(SOURCE)

bench-stores: has-nginx has-wrk $(ENVIRONMENTS)/.installed
	$(ENVIRONMENTS)/rivals/bin/python benchmarks/stores.py $(BENCH)

bystanders: $(VENV)/.installed
	$(BIN)/python benchmarks/bystanders.py

$(ENVIRONMENTS)/.installed: setup.cfg openapi/customers.yaml $(wildcard benchmarks/requirements*.txt)
	$(PYTHON) -m venv $(ENVIRONMENTS)/rivals
	$(ENVIRONMENTS)/rivals/bin/python $(PIP_INSTALL) --editable '.[server]' -r benchmarks/requirements.txt
	$(PYTHON) -m venv $(ENVIRONMENTS)/connexion3
	$(ENVIRONMENTS)/connexion3/bin/python $(PIP_INSTALL) -r benchmarks/requirements-connexion3.txt
	$(ENVIRONMENTS)/rivals/bin/datamodel-codegen --input openapi/customers.yaml \
	  --input-file-type openapi --output-model-type pydantic_v2.BaseModel --disable-timestamp \
	  --target-python-version 3.10 --formatters builtin --output $(ENVIRONMENTS)/models.py
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'Python 3.10 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
	  || { echo "Python's venv module is missing: install Debian's python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Running needs few packages, and testing needs many. Each has a stamp of its own, so that `make run`
# and `make test` work in either order.
$(VENV)/.run: setup.cfg pyproject.toml | $(VENV)/.created
	@echo 'Installing the plugin and gunicorn in $(VENV), which takes about 20 seconds.'
	@$(BIN)/python $(PIP_INSTALL) --editable '.[server]'
	@touch $@

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/.created
	@echo 'Installing the plugin and the tools of its tests in $(VENV), which takes about 2 minutes.'
	@$(BIN)/python $(PIP_INSTALL) --editable '.[test]'
	@touch $(VENV)/.run $@

$(VENV)/.clients: $(VENV)/.installed
	$(BIN)/python $(PIP_INSTALL) --editable '.[test,clients]'
	@touch $@

clients/node_modules/.installed: clients/package.json clients/package-lock.json
	cd clients && npm ci --no-progress
	@touch $@

clean:
	rm -rf .venv .lowest $(ENVIRONMENTS) clients/build clients/node_modules build dist *.egg-info \
	  .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
