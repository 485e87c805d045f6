# make run: the plugin on its sandbox at http://127.0.0.1:8000      make test: the whole suite
# make clients: clients from the contract, in Python and TypeScript (docs/clients.md)
# make browser: Swagger UI in a real browser
# make docs: the pages of docs/ as a site in build/site, with their links checked
# make bench: what it costs, beside others (benchmarks/README.md)
# make bystanders: the cost of the entry points for other projects (benchmarks/README.md)
# make fuzz: what no one would think of, much of it (15 minutes on two cores)
# make soak: the long runs of docs/reliability.md (45 minutes)     make mutants: who guards the guards

PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000
URL := http://127.0.0.1:$(PORT)
API := $(URL)/api/json/v1/ecwid

.PHONY: run test clients browser docs fuzz fuzz-requests fuzz-documents bench bystanders soak mutants clean
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

run: .venv/.installed
	@printf '%s\n' \
	  'Swagger UI: $(API)/ui/' \
	  '' \
	  "curl '$(API)/customers?limit=2'" \
	  "curl '$(API)/customer/172890169'" \
	  "curl '$(API)/add_customer' -H 'Content-Type: application/json' -d '{\"email\": \"new@example.com\"}'" \
	  "curl '$(API)/update_customer/172890169' -H 'Content-Type: application/json' -d '{\"acceptMarketing\": false}'" \
	  "curl -X POST '$(API)/delete_customer/172890169'" \
	  ''
	ECWID_SANDBOX=on $(BIN)/gunicorn --bind 127.0.0.1:$(PORT) wsgi:app

test: has-nginx .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadscope --cov --cov-report=term

docs: .venv/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

fuzz: .venv/.installed
	$(MAKE) --no-print-directory --jobs=2 --output-sync fuzz-requests fuzz-documents

fuzz-requests: .venv/.installed
	FUZZ=much $(BIN)/python -m pytest -rP --show-capture=stdout tests/e2e/test_fuzz_requests.py

fuzz-documents: .venv/.installed
	FUZZ=much $(BIN)/python -m pytest -rP --show-capture=stdout tests/web/test_fuzz_json.py tests/client/test_fuzz_replies.py

clients: has-npm .venv/.clients clients/node_modules/.installed
	$(BIN)/python -m pytest tests/e2e/test_python_client.py clients --ignore clients/test_browser.py

browser: has-chromium .venv/.clients
	$(BIN)/python -m pytest clients/test_browser.py

soak: .venv/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.soak $(SOAK)

mutants: .venv/.installed
	$(BIN)/python tests/mutants.py

ENVIRONMENTS := benchmarks/.environments
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

bench: has-nginx has-wrk $(ENVIRONMENTS)/.installed
	$(ENVIRONMENTS)/rivals/bin/python benchmarks/run.py $(BENCH)

bystanders: .venv/.installed
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

.venv/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'Python 3.10 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
	  || { echo "Python's venv module is missing: install Debian's python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) --editable '.[test]'
	@touch $@

.venv/.clients: .venv/.installed
	$(BIN)/python $(PIP_INSTALL) --editable '.[test,clients]'
	@touch $@

clients/node_modules/.installed: clients/package.json clients/package-lock.json
	cd clients && npm ci --no-progress
	@touch $@

clean:
	rm -rf .venv $(ENVIRONMENTS) clients/build clients/node_modules build dist *.egg-info \
	  .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
