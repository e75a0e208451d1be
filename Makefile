# Two commands, nothing before them: `make train` and `make test`. `make help` lists the rest.

# The interpreter that makes .venv: python3 where it is new enough, otherwise the newest that is. Or name one: make PYTHON=...
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

# Passed on to the command: make train ARGS="--data book.txt --steps 500", make test ARGS="tests/test_packaging.py"
ARGS ?=

VENV := .venv
OLDEST := $(VENV)/oldest
ADAPTERS := $(VENV)/adapters
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check --no-input
# The folders too: their time changes when a file is removed.
SOURCES := $(shell find tinygrad_lstm backends models -name __pycache__ -prune -o -type d -print -o -name '*.py' -print -o -name '*.cu*' -print -o -name '*.[ch]' -print)

LAB := build/lab

.PHONY: help train inspect lab lab-serve test lint types test-oldest test-adapters docs docs-serve fuzz sanitize coverage record pictures notebooks dist install install-test install-dev clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22
	@echo '  ARGS="..." is passed on to the command, PYTHON=... names the interpreter that makes $(VENV)'

train: $(VENV)/.installed  ## train the character model on real text (the main job)
	$(VENV)/bin/tinygrad-lstm train $(ARGS)

inspect: $(VENV)/.installed  ## look inside the model that train made, or make one: writes a page and prints its path
	@ls runs/char-lm/last.safetensors runs/char-lm-*/last.safetensors 2>/dev/null | grep -q . || $(VENV)/bin/tinygrad-lstm train
	$(VENV)/bin/tinygrad-lstm inspect $(ARGS)

lab: $(VENV)/.installed  ## build the laboratory: a folder in which an LSTM is trained in a browser's tab
	$(VENV)/bin/python lab/build.py $(LAB) $(ARGS)

lab-serve: lab  ## build it, and serve it to this machine, on PORT=8000
	$(VENV)/bin/python -m http.server --bind 127.0.0.1 --directory $(LAB) $(or $(PORT),8000)

# One BLAS thread a worker: two workers with two threads each would fight over two cores.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
PYTEST := $(VENV)/bin/pytest -n 2 --dist worksteal

test: lint types  ## linter, formatter, type checker and every test
	$(ONE_THREAD) $(PYTEST) $(ARGS)
	$(if $(ARGS),,@$(MAKE) --no-print-directory test-oldest)

lint: $(VENV)/.installed-test  ## linter and formatter (part of test)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-test $(VENV)/.stubs $(VENV)/.wheel  ## type checker, on the installed wheel (part of test)
	cd $(VENV)/wheel && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p tinygrad_lstm

test-oldest: $(OLDEST)/.installed  ## what the library needs of its dependencies, with their oldest versions (part of test)
	@test ! -e $(OLDEST)/bin/pytest || $(OLDEST)/bin/pytest tests/test_dependencies.py

# The page's examples with sktime and aeon run there too. Warnings are those of these libraries.
test-adapters: $(ADAPTERS)/.installed  ## sktime's and aeon's own checks of the estimators for them, in an environment with both
	$(ONE_THREAD) $(ADAPTERS)/bin/pytest -rs -W ignore -k "adapters or blocks and your-data" \
		tests/estimators/test_adapters.py tests/docs/test_pages.py $(ARGS)

# The theme prints an advertisement otherwise.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs
docs: $(VENV)/.installed-docs $(VENV)/.stubs  ## the site, to open without a server: build/site/index.html
	@$(MAKE) --no-print-directory lab || echo "note: the site is built without the laboratory" >&2
	$(MKDOCS) build --quiet
	@echo "open $(CURDIR)/build/site/index.html"

docs-serve: $(VENV)/.installed-docs $(VENV)/.stubs  ## the site at http://127.0.0.1:8000, built again when a page changes
	$(MKDOCS) serve

fuzz: $(VENV)/.installed-test  ## read damaged files of every format; ARGS="--cases 100000" for as many
	$(VENV)/bin/python tests/fuzz_files.py $(ARGS)

sanitize: $(VENV)/.installed-test  ## tests of the kernels in C, built for AddressSanitizer and UndefinedBehaviorSanitizer
	$(VENV)/bin/python tests/sanitized.py $(ARGS)

# Processes that tests start are measured too, also in other folders: hence absolute paths.
MEASURED := --source=$(CURDIR)/tinygrad_lstm,$(CURDIR)/backends,$(CURDIR)/models
coverage: $(VENV)/.installed-dev $(VENV)/.stubs  ## the tests, and which lines they run: build/coverage/html/index.html
	rm -rf build/coverage && mkdir -p build/coverage
	$(ONE_THREAD) $(VENV)/bin/coverage run $(MEASURED) $(PYTEST) $(ARGS); status=$$?; \
		$(VENV)/bin/coverage combine -q && $(VENV)/bin/coverage html -q && $(VENV)/bin/coverage report && exit $$status

record: $(VENV)/.installed  ## measure a few times and append them to benchmarks/record.jsonl; ARGS=--show compares the last
	$(VENV)/bin/python benchmarks/record.py $(ARGS)

pictures: $(VENV)/.installed-test  ## run all examples, for their pictures in docs/pictures/
	$(VENV)/bin/python .ci/examples.py pictures

notebooks: $(VENV)/.installed-dev  ## make the notebooks in examples/ from their programs, and run them
	$(VENV)/bin/python .ci/examples.py notebooks

# The wheel is tried in an environment that has nothing else.
dist: $(VENV)/.installed-test  ## build the sdist and the wheel into dist/, and try the wheel in a fresh environment
	rm -rf dist build/fresh
	$(VENV)/bin/python -m build --outdir dist .
	$(VENV)/bin/python -m venv build/fresh
	build/fresh/bin/python -m pip --quiet --disable-pip-version-check --no-input install dist/*.whl
	cd build/fresh && bin/tinygrad-lstm info && bin/tinygrad-lstm train --steps 20 --hidden 16

install: $(VENV)/.installed $(VENV)/.stubs  ## make .venv and install the project there, editable

install-test: $(VENV)/.installed-test $(VENV)/.stubs  ## the same, with the extra "test"

install-dev: $(VENV)/.installed-dev $(VENV)/.stubs  ## the same, with the extra "dev"

clean:  ## remove .venv and everything that was built
	rm -rf $(VENV) tinygrad_lstm/backends tinygrad_lstm/models build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What installs a Debian package, or says how to.
define ensure_package
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing $(1)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $(1) >/dev/null; \
	else \
		echo "$(2), on Debian and Ubuntu: sudo apt-get install $(1)" >&2; $(3); \
	fi
endef

# Stamp files: a second make installs again only when pyproject.toml has changed.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no Python at $(PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "error: Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		$(call ensure_package,"$$package",error: $(PYTHON) cannot make virtual environments; install its venv module,exit 1); }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	$(PIP) install -e .
	@touch $@

# The tests build kernels in C, and the CUDA kernels for the host with a C++ compiler, open pages in a browser, and draw graphs.
$(VENV)/.installed-test: pyproject.toml | $(VENV)/.made
	@command -v g++ >/dev/null || { $(call ensure_package,g++,note: without g++ the CUDA kernels are not tested; install it,true); }
	@command -v $${CC:-cc} >/dev/null || { $(call ensure_package,gcc,note: without a C compiler the kernels in C are not tested; install it,true); }
	@command -v chromedriver >/dev/null || { $(call ensure_package,chromium chromium-driver,note: without a browser the pages are not tested in one; install it,true); }
	@command -v dot >/dev/null || { $(call ensure_package,graphviz,note: without Graphviz graphs are not drawn in tests; install it,true); }
	$(PIP) install -e '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.made
	$(PIP) install -e '.[docs]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed-test
	$(PIP) install -e '.[dev]'
	@touch $@

# There are wheels of the oldest versions for these Pythons.
$(OLDEST)/.installed: pyproject.toml .ci/oldest.py | $(VENV)/.made
	rm -rf $(OLDEST) && mkdir $(OLDEST)
	@for python in $(VENV)/bin/python python3.11 python3.12; do \
		$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || continue; \
		$$python .ci/oldest.py >$(OLDEST)/requirements.txt && $$python -m venv $(OLDEST) && break; \
	done
	@test ! -e $(OLDEST)/bin || { cd $(OLDEST) && bin/python -m pip --quiet --disable-pip-version-check --no-input install \
		-r requirements.txt && bin/python -m pip --quiet install --no-deps -e $(CURDIR) && bin/python -m pip check; }
	@test -e $(OLDEST)/bin || echo "note: without Python 3.11 or 3.12 the oldest dependencies are not tested; install one" >&2
	@touch $@

$(ADAPTERS)/.installed: pyproject.toml | $(VENV)/.made
	$(VENV)/bin/python -m venv --clear $(ADAPTERS)
	$(ADAPTERS)/bin/python -m pip --quiet --disable-pip-version-check --no-input install -e '.[aeon,onnx,plot,sktime]' hypothesis pytest
	@touch $@

# For editors, and for type checkers and mkdocstrings, which are run on the checkout itself.
$(VENV)/.stubs: .ci/stubs.py $(SOURCES) | $(VENV)/.made
	$(VENV)/bin/python .ci/stubs.py
	@touch $@

# What is type-checked is the wheel, as users get it, unpacked in a folder of its own.
# The wheel is built from the sdist, so a file that either misses is seen here.
$(VENV)/.wheel: pyproject.toml MANIFEST.in README.md LICENSE $(SOURCES) | $(VENV)/.installed-test
	rm -rf $(VENV)/wheel $(VENV)/dist
	$(VENV)/bin/python -m build --no-isolation --outdir $(VENV)/dist . >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	$(PIP) install --no-deps --no-index --no-compile --target $(VENV)/wheel $(VENV)/dist/*.whl
	@touch $@
