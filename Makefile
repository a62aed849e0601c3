# Everything a checkout can do. Each target does its own set-up; scripts/setup.py is idempotent and quick the second time.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)

.PHONY: help setup run test lint wheelhouse clean

help:
	@echo "make run         set up, then serve with the built-in model (http://127.0.0.1:11434)"
	@echo "make setup       only set up: .venv/bin/llamada"
	@echo "make test        set up with the development tools, then tests, lint and types"
	@echo "make lint        format and lint rules only"
	@echo "make wheelhouse  collect every wheel in wheelhouse/ for a machine without a network"
	@echo "make clean       remove .venv and build leftovers (models are kept)"

setup:
	@$(PYTHON) scripts/setup.py

run: setup
	@exec .venv/bin/llamada serve

test:
	@$(PYTHON) scripts/setup.py --dev
	@scripts/check
	@scripts/test

lint:
	@$(PYTHON) scripts/setup.py --dev
	@scripts/lint

wheelhouse:
	@$(PYTHON) scripts/setup.py --wheelhouse

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
