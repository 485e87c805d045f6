# make run: the plugin on its sandbox at http://127.0.0.1:8000      make test: the whole suite

PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000
URL := http://127.0.0.1:$(PORT)
API := $(URL)/api/json/v1/ecwid

.PHONY: run test clean

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

test: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --cov --cov-report=term

.venv/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo 'Python 3.10 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' \
	  || { echo "Python's venv module is missing: install Debian's python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
