# Every target first sets up .venv: slow the first time, immediate from then on.
PYTHON ?= python3
SETUP = @$(PYTHON) sandbox/bootstrap.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-package test-browser screenshots test-docker bench scaling chaos docs reference lint hooks format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: ## run the whole job on a sample database (KEEP=1: stay up until Ctrl-C)
	$(SETUP) demo
	@exec .venv/bin/python -m sandbox.demo $(if $(KEEP),--keep)

test: ## run the tests for every change, about five minutes (ARGS="-k name": options for pytest)
	$(SETUP) test
	@exec .venv/bin/python -m pytest -n 8 --dist loadfile $(ARGS)

test-long: ## run the long forms: faults at every moment, all combinations, more random examples
	$(SETUP) test
	@HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-long} exec .venv/bin/python -m pytest -n 6 --dist loadfile -m long $(ARGS)

test-package: ## build wheel and sdist, and install them on every Python found
	$(SETUP) package
	@exec .venv/bin/python -m pytest -m package tests/test_package.py tests/test_plugin_package.py $(ARGS)

test-browser: ## test Flower and reports in a browser (Debian: apt install chromium)
	$(SETUP) browser
	@exec .venv/bin/python -m pytest -m browser tests/browser $(ARGS)

screenshots: ## retake the pictures in docs/images
	$(SETUP) browser
	@SCREENSHOTS=docs/images exec .venv/bin/python -m pytest -m browser tests/browser $(ARGS)

test-docker: ## test the image and docker-compose.yml; skipped without Docker
	$(SETUP) test
	@exec .venv/bin/python -m pytest -n 2 --dist loadfile -m docker tests/docker $(ARGS)

bench: ## measure the speed (ARGS="--help": list its options)
	$(SETUP) servers
	@exec .venv/bin/python -m benchmarks $(ARGS)

scaling: ## measure 1, 2 and 4 workers in Docker (ARGS="--rate 20/s": with a rate)
	$(SETUP) servers
	@exec .venv/bin/python -m benchmarks.scaling $(ARGS)

chaos: ## inject random faults (ARGS="--seed 7", "--schedules 50", "--short")
	$(SETUP) servers
	@exec .venv/bin/python -m chaos $(ARGS)

docs: ## build the documentation into build/docs and check its links
	$(SETUP) docs
	rm -rf build/docs
	.venv/bin/sphinx-build --builder html --fail-on-warning --keep-going --nitpicky --fresh-env docs build/docs
	.venv/bin/python docs/links.py build/docs

reference: ## regenerate docs/reference from the commands and settings
	$(SETUP) docs
	.venv/bin/python docs/generate.py

lint: ## check style, types and import layers
	$(SETUP) lint
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

hooks: ## run `make lint` before each git commit (pre-commit)
	$(SETUP) lint
	@.venv/bin/pre-commit install

format: ## format the code
	$(SETUP) lint
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

clean: ## remove .venv and all caches
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
