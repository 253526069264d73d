# Everything a developer does here. `make run` and `make test` need gcc, make and Python 3.11 to
# 3.13; they see to the rest.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

ARGS ?=
FUZZ_SECONDS ?= 60
PYTEST_ARGS ?=

# PYTHON=..., when given, is the Python that the virtual environment is made with.
export PYTHON
# Only installed packages are importable: coordinator/ has one name, dp2p.coordinator.
export PYTHONSAFEPATH := 1

# Stamps, so that a second run starts at once. A build without OpenSSL has its own.
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
ifeq ($(filter-out 0,$(DP2P_WITHOUT_OPENSSL)),)
PACKAGE := $(VENV)/.package
else
PACKAGE := $(VENV)/.package-without-openssl
endif

PACKAGE_SOURCES := pyproject.toml setup.py cext/build.py \
	$(wildcard cext/include/*.h cext/src/*.[ch])
PYTHON_CODE := $(wildcard src tests load examples coordinator shards setup.py cext/build.py)
TYPED_CODE := src/dp2p tests cext/build.py \
	$(shell find load examples -name '*.py' 2>/dev/null | cut -d/ -f1 | sort -u)
C_CODE := $(wildcard cext/include/*.h cext/*/*.[ch] load/*.[ch] load/*/*.[ch])
C_MAKE := $(MAKE) --no-print-directory --output-sync=target -j$(shell nproc) -f cext/Makefile

.DEFAULT_GOAL := help
.PHONY: help run test check types test-c test-python fuzz bench sim build format clean lock
.NOTPARALLEL:

help: ## list these targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

run: $(PACKAGE) ## two nodes on this machine move a directory tree (ARGS="PATH ...")
	$(BIN)/dp2p demo $(ARGS)

test: test-c ## everything that tests: C units, short fuzzing, pytest
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=5
	@$(MAKE) --no-print-directory test-python

# Tests of processes have the machine for themselves; the others share its cores. Each worker has a folder below the
# temporary one: a short one, since paths of sockets have little room.
test-python: $(PACKAGE) $(DEV) ## pytest alone (PYTEST_ARGS="-k NAME")
ifeq ($(PYTEST_ARGS),)
	$(BIN)/python -m pytest tests/process
	short=$$(mktemp -d) && trap 'rm -rf "$$short"' EXIT && $(BIN)/python -m pytest \
		--ignore=tests/process --numprocesses=auto --dist=worksteal --basetemp="$$short/t"
else
	$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

test-c: $(DEV) ## C unit tests under ASan and UBSan, with each AEAD provider
	@$(C_MAKE) test

fuzz: $(DEV) ## every libFuzzer target for FUZZ_SECONDS (60)
	@$(C_MAKE) fuzz FUZZ_SECONDS=$(FUZZ_SECONDS)

check: $(PACKAGE) $(DEV) ## formatting, linters, types, strict C, who may import whom
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	@$(MAKE) --no-print-directory types
	$(BIN)/clang-format --dry-run -Werror $(C_CODE)
	@$(C_MAKE) strict
	$(BIN)/python -m pytest -q tests/test_architecture.py

types: $(DEV) ## strict mypy
	$(BIN)/mypy $(TYPED_CODE)

bench: $(PACKAGE) $(DEV) ## one table of rates and costs (ARGS="--json FILE ...")
	$(BIN)/dp2p bench $(ARGS)

sim: $(PACKAGE) $(DEV) ## experiments in virtual time, into docs/simulation.md (ARGS="NAME ...")
	$(BIN)/dp2p sim --jobs $(shell nproc) --out docs/simulation --into docs/simulation.md $(ARGS)

build: $(PACKAGE) ## the virtual environment and the extension

format: $(DEV) ## rewrite Python and C in the project's format
	$(BIN)/ruff check --fix-only --quiet $(PYTHON_CODE)
	$(BIN)/ruff format $(PYTHON_CODE)
	$(BIN)/clang-format -i $(C_CODE)

clean: ## remove what was built, but for the virtual environment
	rm -rf build dist src/*.egg-info src/dp2p/_transport*.so $(VENV)/.package*
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

lock: $(RUNTIME) ## pin the dependencies anew (ARGS=--upgrade)
	scripts/lock $(BIN)/python $(ARGS)

# A virtual environment that does not start (its Python is gone) is made anew.
$(RUNTIME): requirements/runtime.txt
	@scripts/system-packages run
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		"$$(scripts/find-python)" -m venv --clear $(VENV)
	@echo "installing what dp2p runs with"
	@$(PIP) install --quiet --require-hashes -r requirements/runtime.txt
	@touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	@scripts/system-packages test
	@echo "installing what dp2p is tested with"
	@$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(PACKAGE): $(RUNTIME) $(PACKAGE_SOURCES)
	@echo "building the extension"
	@rm -f $(VENV)/.package* src/dp2p/_transport*.so
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import dp2p._transport'
	@touch $@
