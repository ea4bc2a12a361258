# Every target makes what it needs: on a fresh machine `make demo` or `make test` is the first and only command.
PYTHON ?= python3
VENV   ?= .venv
# More arguments for pip, for instance a package index of your own or of torch builds for one device.
PIP_ARGS ?=

BIN   := $(VENV)/bin
DEPS  := $(VENV)/.dependencies
BUILT := $(VENV)/.built
NATIVE_SOURCES := setup.py CMakeLists.txt $(shell find csrc -type f)
CXX_SOURCES    := $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu')

.PHONY: setup demo test lint format bench clean
.DELETE_ON_ERROR:

setup: $(BUILT)

$(DEPS): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing torch and the build tools into $(VENV) (a few minutes at first) ...'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt torch numpy setuptools wheel cmake ninja pybind11
	@rm -f $(BUILT)
	@touch $@

$(BUILT): $(DEPS) $(NATIVE_SOURCES)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt --no-build-isolation --editable '.[merc,report,dev]'
	@touch $@

demo: setup
	$(BIN)/spcl-fast demo

test: setup
	$(BIN)/python -m pytest -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(CXX_SOURCES),$(BIN)/clang-format --dry-run --Werror $(CXX_SOURCES))

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(CXX_SOURCES),$(BIN)/clang-format -i $(CXX_SOURCES))

bench: setup
	$(BIN)/spcl-fast bench

clean:
	rm -rf build dist *.egg-info spcl_fast/*.so spcl_fast/_build.py $(BUILT)
