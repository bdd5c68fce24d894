# `make help` lists what there is. Everything is installed into .venv, from requirements/*.txt only,
# every file checked against its hash.

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PORT := $(or $(HEADGATE_PORT),8080)
URL := http://127.0.0.1:$(PORT)
WEIGHTS := smollm2 minilm

# Per cent of lines and branches that the tests must reach. It only goes up.
COVERAGE := 96

# The first Python that is new enough; PYTHON=/path/to/python says otherwise.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# uv writes the lock files: for every platform, with hashes, and without a word on where it looked.
COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --generate-hashes \
	--python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

serve: export HEADGATE_PORT := $(PORT)
test: export COVERAGE_FILE := $(CURDIR)/.cache/coverage/data

.DEFAULT_GOAL := help
.PHONY: help serve test test-long check format docs bench lock clean

help: ## this list
	@echo "make TARGET, on a machine with Python 3.11 or newer; the set-up is part of each:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

serve: $(STAMPS)/serve ## the embedded models and the example, on port $HEADGATE_PORT or 8080
	$(pull)
	@echo
	@echo "Headgate starts on $(URL). Ask it something, from another terminal:"
	@echo
	@echo "  curl $(URL)/v1/chat/completions -H 'content-type: application/json' \\"
	@echo "    -d '{\"model\": \"smollm2\", \"messages\": [{\"role\": \"user\", \"content\": \"Name three rivers.\"}]}'"
	@echo "  curl -N $(URL)/v1/chat/completions -H 'content-type: application/json' \\"
	@echo "    -d '{\"model\": \"smollm2\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
	@echo "  curl $(URL)/v1/embeddings -H 'content-type: application/json' \\"
	@echo "    -d '{\"model\": \"minilm\", \"input\": \"a gate at the head of the river\"}'"
	@echo "  curl $(URL)/models/wine/predict -H 'content-type: text/csv' --data-binary @examples/wine/rows.csv"
	@echo
	@echo "All routes: $(URL)/docs. Ctrl-C ends it."
	@echo
	@exec $(BIN)/headgate serve examples/headgate.yaml

# Four at once, also on two cores: half of the tests wait for sockets, stalls and processes.
test: $(STAMPS)/test $(STAMPS)/langchain check ## lint, types, and the whole test suite with its coverage
	$(pull)
	mkdir -p $(dir $(COVERAGE_FILE))
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not long" --numprocesses 4 --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERAGE)

test-long: $(STAMPS)/test ## the tests that take minutes
	$(pull)
	$(BIN)/python -m pytest -m long

check: $(STAMPS)/test ## lint, format and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMPS)/test ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMPS)/test ## write the pages that are generated from the code
	$(BIN)/python -m tests.support.loss_table > docs/dialects/losses.md
	$(BIN)/python -m tests.support.answer_table > docs/dialects/answers.md

bench: $(STAMPS)/test ## compare with other proxies; needs gcc, and nginx for its rows
	@command -v nginx >/dev/null || $(call debian,nginx-light)
	$(BIN)/python -m bench

lock: $(STAMPS)/lock ## write requirements/*.txt anew; UPGRADE=1 takes the newest versions
	$(COMPILE) pyproject.toml --all-extras --output-file requirements/all.txt
	$(COMPILE) pyproject.toml --all-extras --group test --constraints requirements/all.txt --output-file requirements/test.txt
	$(COMPILE) pyproject.toml --constraints requirements/all.txt --output-file requirements/run.txt
	$(COMPILE) requirements/build.in --constraints requirements/test.txt --output-file requirements/build.txt
	$(COMPILE) requirements/lock.in --output-file requirements/lock.txt
	$(COMPILE) tests/e2e/sdk/langchain/requirements.in --output-file requirements/langchain.txt

clean: ## remove everything that was made here; weights stay in their cache
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .hypothesis bench/bin

# What follows is made by the above.

pull = @for name in $(WEIGHTS); do $(BIN)/headgate pull $$name || exit; done

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Headgate needs Python 3.11 or newer: install it, or say PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call debian,python3-venv)
	$(PYTHON) -m venv $(VENV)

# $(1): the lock file. The project itself comes from this folder, built by the locked hatchling. Of what the
# wheels do not carry, xllamacpp needs GNU OpenMP.
define install
	mkdir -p $(STAMPS)
	$(PIP) install --quiet --require-hashes -r requirements/build.txt
	$(PIP) install $(if $(CI),--quiet) --require-hashes -r requirements/$(1).txt
	$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || ! command -v apt-get >/dev/null || $(call debian,libgomp1)
	touch $@
endef

$(STAMPS)/test: requirements/test.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(call install,test)
	touch $(STAMPS)/serve

$(STAMPS)/serve: requirements/all.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(call install,all)

# LangChain's standard tests want other versions than the rest: an environment of their own.
$(STAMPS)/langchain: requirements/langchain.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/langchain
	mkdir -p $(STAMPS)
	$(VENV)/langchain/bin/python -m pip --disable-pip-version-check --no-input install --quiet --require-hashes -r $<
	touch $@

$(STAMPS)/lock: requirements/lock.txt | $(VENV)/bin/python
	mkdir -p $(STAMPS)
	$(PIP) install --quiet --require-hashes -r requirements/lock.txt
	touch $@

# A Debian package, where we may install one; otherwise the command that does.
debian = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && apt-get install -qq --yes --no-install-recommends $(1); \
	else echo "missing: $(1). As root: apt-get install $(1)" >&2; exit 1; fi
