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

.PHONY: setup demo test test-extras test-sanitize cuda-check lint format bench clean
.DELETE_ON_ERROR:

setup: $(BUILT)

$(DEPS): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing torch and the build tools into $(VENV) (a few minutes at first) ...'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt torch numpy setuptools wheel cmake ninja pybind11
	@rm -f $(BUILT)
	@touch $@

$(BUILT): $(DEPS) $(NATIVE_SOURCES)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt --no-build-isolation --editable '.[merc,report,corpus,dev]'
	@touch $@

demo: setup
	$(BIN)/spcl-fast demo

# A process for each core, up to four: every one imports torch.
test: setup
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

# The adapters against the real packages. Those lie in an environment of their own, which sees what is in that of
# `make setup` and leaves it as it is.
EXTRAS := .venv-extras
$(EXTRAS)/.installed: $(BUILT) pyproject.toml constraints.txt
	@test -x $(EXTRAS)/bin/python || $(BIN)/python -m venv $(EXTRAS)
	@echo 'Installing lightning, transformers, ray and other hosts into $(EXTRAS) (minutes at first) ...'
	@seen=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
		echo "import site; site.addsitedir('$$seen')" > \
		$$($(EXTRAS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/setup.pth
	@$(BIN)/python -c 'import tomllib; of = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*of["adapters"], *of["ray"], sep="\n")' > $(EXTRAS)/requirements.txt
	$(EXTRAS)/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -r $(EXTRAS)/requirements.txt
	@touch $@

test-extras: $(EXTRAS)/.installed
	$(EXTRAS)/bin/python -m pytest -q -n auto --maxprocesses 2 --dist worksteal tests/extras
	$(EXTRAS)/bin/python -m pytest -q tests/test_doctests.py -k integrations

# The libraries of an own build tree, in a copy of the package, so that the usual ones stay as they are. Leaks are
# not looked for: Python and torch keep memory to the end.
SANITIZED := build/sanitized
test-sanitize: setup
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r spcl_fast tests csrc setup.py CMakeLists.txt pyproject.toml README.md LICENSE $(SANITIZED)
	rm -f $(SANITIZED)/spcl_fast/*.so $(SANITIZED)/spcl_fast/_build.py
	cd $(SANITIZED) && SPCL_FAST_SANITIZE=1 $(CURDIR)/$(BIN)/python setup.py -q build_ext --inplace
	cd $(SANITIZED) && LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) $$($${CXX:-g++} -print-file-name=libstdc++.so.6)" \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=. \
		$(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider --capture=sys --ignore=tests/native/test_build.py \
		tests/native tests/ops $(PYTEST_ARGS)

# What can be known of the CUDA and Triton kernels without a GPU. PART= one part of it, see tools/cuda_check/.
cuda-check: setup
	PART=$(PART) $(BIN)/python tools/cuda_check

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

# All that needs a GPU: PART=tests, bench, sanitize or all. It installs nothing and takes the environment of PYTHON,
# which has torch for CUDA: `make gpu-check PYTHON=python3`, or PYTHON=.venv/bin/python after `make setup`. Exit code of
# the command: 0 nothing failed, 1 something did, 77 there is no CUDA device, and nothing ran.
.PHONY: gpu-check
gpu-check:
	$(PYTHON) -m benchmarks.gpu --part $(or $(PART),all) $(GPU_ARGS)

clean:
	rm -rf build dist *.egg-info spcl_fast/*.so spcl_fast/_build.py $(BUILT)
