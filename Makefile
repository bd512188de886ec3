# Every target sets up what it needs on a fresh Debian 12 machine with Python 3.11, as root.
# Stamps in .make/ say what is already there; `make clean` forgets them.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := .make

# The system is some twenty processes that import the same: compiled once, not in each of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint bench clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)/run ## Walk one incident through the whole system, on this machine (under a minute)
	$(BIN)/kubernaut-ray demo

test: $(STAMP)/dev $(STAMP)/servers ## Run all tests
	$(BIN)/pytest -n 2 -m "not rayed"
	$(BIN)/pytest -m rayed

lint: $(STAMP)/dev ## Run the linters and the type checker
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)/dev ## Run the benchmarks, quickly
	mkdir -p benchmarks/out
	for file in benchmarks/[a-z]*.py; do \
		echo "== $$file"; \
		$(BIN)/python $$file --quick --json benchmarks/out/$$(basename $$file .py).json || exit 1; \
	done

clean: ## Forget the virtual environment and the stamps
	rm -rf $(VENV) $(STAMP)

$(STAMP)/venv:
	@mkdir -p $(STAMP)
	$(PYTHON) -m venv $(VENV) || { apt-get update && apt-get install -y python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/pip install --quiet --upgrade pip uv
	@touch $@

$(STAMP)/run: $(STAMP)/venv pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable .
	@touch $@

$(STAMP)/dev: $(STAMP)/venv pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev,bench]'
	@touch $@ $(STAMP)/run

# The real servers that the tests talk to, and kubectl where there is none.
SERVERS := prometheus prometheus-alertmanager docker-registry chromium wrk
$(STAMP)/servers: $(STAMP)/venv
	@missing=; \
	for p in $(SERVERS); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	command -v kubectl >/dev/null || missing="$$missing kubernetes-client"; \
	if [ -n "$$missing" ]; then \
		apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $$missing; \
	fi
	@touch $@
