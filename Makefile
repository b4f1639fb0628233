# Everything is built into .venv and build/; `make clean` removes both.
# PYTHON=/path/to/python3 chooses the interpreter, ARGS="..." goes to the program that is run. Set-up
# speaks on stderr, so that stdout is the program's alone: make demo ARGS=--json >figures.json

PYTHON ?=
ARGS ?=
DIST ?= dist
DESTDIR ?=
PREFIX ?= /opt/mdsys
EXTRAS ?= daemon,top
export PYTHON
# Hundreds of programs are started here: each would compile mdsys anew where an image forbids that
# bytecode is kept.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
VENV := .venv/.installed
BUILT := build/.extensions
BENCH := .venv/.bench
NATIVE := $(shell find native -name '*.[ch]' -o -name '*.pyx' -o -name '*.pxd' 2>/dev/null)
C_FILES = $(shell find native bench -name '*.[ch]' -o -name '*.cpp' 2>/dev/null)
C_SOURCES = $(wildcard native/src/*.c native/examples/*.c)
CPP_SOURCES = $(wildcard native/examples/*.cpp)
STRICT := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test soak chaos lint format types bench plots pictures dashboards wheel install uninstall venv build \
    prerequisites clean

help: ## this list
	@echo 'make demo and make test do all the set-up by themselves.'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: build ## simulated venue, daemon and consumer, with a live table
	@$(BIN)/mdsys demo $(ARGS)

# One worker more than two cores can feed: many tests wait. A file stays in one worker, and so do
# the daemons that its tests share; the files come in the order that tests/conftest.py gives them.
test: build ## the whole test suite; ARGS="-k ring" picks
	@tools/prerequisites test >/dev/null
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: build ## 50,000 symbols and feeds killed at random; ARGS="--minutes 10 --seed 1"
	@tools/prerequisites test >/dev/null
	@$(BIN)/python -m tests.soak $(ARGS)

chaos: build ## everything killed, filled, muted and stepped; ARGS="--minutes 10 --seed 1 --json"
	@tools/prerequisites test >/dev/null
	@$(BIN)/python -m tests.chaos $(ARGS)

# gcc's warnings come with the build (MDSYS_WERROR=1 makes them errors); clang has others.
lint: $(VENV) ## formatting and lint, changing nothing
	$(BIN)/ruff format --check .
	$(if $(C_FILES),$(BIN)/clang-format --dry-run -Werror $(C_FILES))
	$(BIN)/ruff check .
	@! command -v clang >/dev/null || { set -x; clang -fsyntax-only -std=c17 $(STRICT) \
	    -Inative/include -Inative/src $(C_SOURCES) && clang++ -fsyntax-only -std=c++17 $(STRICT) \
	    -Inative/include $(CPP_SOURCES); }

format: $(VENV) ## put Python and C into the house's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .
	$(if $(C_FILES),$(BIN)/clang-format -i $(C_FILES))

types: $(VENV) ## mypy --strict
	$(BIN)/mypy

bench: build $(BENCH) ## the benchmarks: a table and .bench/latest.json
	@$(BIN)/python -m bench $(ARGS)

plots: build $(BENCH) ## measures latencies and batches and draws docs/bench/*.png
	@$(BIN)/python -m bench --json .bench/plots.json $(ARGS) 'ring.latency*' 'ring.batch*' \
	    'python.latency*' 'peer.*'
	@$(BIN)/python -m bench.plot

dashboards: build ## makes deploy/grafana/*.json from the schema
	@$(BIN)/python -m tools.dashboards

pictures: build ## draws docs/*.svg of real runs; ARGS=dashboard or ARGS=terminal for those alone
	@$(BIN)/python -m tools.pictures $(ARGS)

wheel: $(VENV) ## a portable wheel in dist/
	@rm -rf build/wheel build/lib.* build/bdist.*
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	@PATH="$(CURDIR)/$(BIN):$$PATH" auditwheel repair --strip --wheel-dir $(DIST) build/wheel/*.whl \
	    >build/log 2>&1 || { cat build/log; exit 1; }
	@ls $(DIST)/mdsys-*.whl

install: ## program, units, user and the rest of the host's files; DESTDIR=/stage PREFIX=/opt/mdsys
	@rm -rf build/dist
	@$(MAKE) --no-print-directory wheel DIST=build/dist >&2
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' EXTRAS='$(EXTRAS)' tools/install build/dist/*.whl

uninstall: ## take away what install has put there
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' tools/install --uninstall

venv: $(VENV) ## .venv with every development requirement

build: $(BUILT) ## the C extensions, in place

prerequisites: ## compiler, Python headers, clang: install them or say how
	@tools/prerequisites test >/dev/null

clean: ## remove all that make has made
	rm -rf .venv .bench build dist mdsys.egg-info mdsys/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The project itself is installed editable and without its extensions, which $(BUILT) makes.
$(VENV): pyproject.toml constraints.txt
	@python=$$(tools/prerequisites build) && \
	{ $(BIN)/python -c 'import pip' 2>/dev/null || "$$python" -m venv --clear .venv >&2; }
	@echo 'installing the development requirements into .venv' >&2
	@$(PIP) install -c constraints.txt setuptools Cython picows >&2
	@MDSYS_EXT= $(PIP) install -c constraints.txt --no-build-isolation -e '.[daemon,dev]' >&2
	@touch $@

$(BUILT): $(VENV) setup.py $(NATIVE)
	@echo 'building the C extensions' >&2
	@mkdir -p build
	@$(BIN)/python setup.py -q build_ext --inplace >build/log 2>&1 || { cat build/log >&2; exit 1; }
	@touch $@

# Peers to compare with, and what draws. One that cannot be had is left out of the table.
$(BENCH): $(VENV) pyproject.toml
	@for peer in iceoryx2 pyzmq matplotlib; do $(PIP) install -c constraints.txt $$peer || \
	    echo "notice: $$peer is not to be had, its rows are left out"; done
	@touch $@
