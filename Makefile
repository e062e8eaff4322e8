# Every target makes what it needs under .venv/: only make and a Python with venv must be there.
# Another Python:        make test PYTHON=python3.13
# Arguments for pytest:  make test ARGS="-k digest -x"
# Other suites:          make thirdparty SUITES="click pluggy"

PYTHON ?= python3
ARGS ?=
FRAMEWORKS ?= web prefect dagster airflow
SUITES ?= toolz asyncstdlib attrs click jinja2 tenacity sqlparse more-itertools

VERSION := $(shell $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) and print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
BUILD := .venv/$(VERSION)-build
DIST := dist/$(VERSION)
TEST := .venv/$(VERSION)-test
DEMO := .venv/$(VERSION)-demo
DEV := .venv/$(VERSION)-dev
PEERS := .venv/$(VERSION)-peers

# What goes into the wheel; folders are listed too, so that a removed file counts as a change.
SOURCES := pyproject.toml setup.py flowtrace_pytest.py $(wildcard README.md LICENSE) \
	$(shell find flowtrace -name __pycache__ -prune -o -name "*.so" -prune -o -print)
WHEEL = $(DIST)/flowtrace-*.whl
TRACE := artifacts/trace.json

# One pip, the build environment's, installs into all of them: a pip of its own would cost each several seconds.
# -qq leaves errors to be seen and no more. --no-compile: what is imported is compiled then, and that is a small part.
pip = $(BUILD)/bin/python -m pip --python $(1)/bin/python install -qq --no-compile

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Says that the theme's makers work on something else than MkDocs; no news for a build.
export NO_MKDOCS_2_WARNING := 1
# A path from outside could put another flowtrace before the one under test.
unexport PYTHONPATH

MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

# --- what people call ------------------------------------------------------------------------

.PHONY: demo
demo: $(DEMO)/.package ## run the example that fails, and show its trace
	@rm -f $(TRACE) && mkdir -p $(dir $(TRACE))
	@echo '$$ FLOWTRACE_OUT=$(TRACE) python examples/fuel_economy.py'
	@status=0; FLOWTRACE_OUT=$(TRACE) $(DEMO)/bin/python examples/fuel_economy.py || status=$$?; \
	if [ $$status -eq 0 ]; then echo 'demo: the example was to fail, and did not' >&2; exit 1; fi; \
	if [ $$status -ne 1 ]; then echo "demo: the example ended with status $$status, not 1" >&2; exit 1; fi; \
	if [ ! -s $(TRACE) ]; then echo 'demo: no trace was written to $(TRACE)' >&2; exit 1; fi
	@echo
	@echo '$$ flowtrace show $(TRACE)'
	@$(DEMO)/bin/flowtrace show $(TRACE)

.PHONY: web
web: ## build the script and the style of the page that `view` writes (needs Node.js)
	@cd web && npm ci --no-audit --no-fund --ignore-scripts && npm run build

# A test that is done early leaves its worker free for the next, wherever that stands.
PYTEST = $(TEST)/bin/pytest -n auto --dist worksteal

# What a call goes through, once more by the pure twin of the native core.
BOTH := tests/test_core.py tests/test_core_box.py tests/test_copies.py tests/test_opaque_objects.py tests/test_blackbox.py tests/test_runs.py tests/test_traced_node.py tests/test_traced_classes.py tests/test_guards.py tests/test_overhead.py tests/test_wrapt_compositions.py tests/conformance

.PHONY: test
test: $(TEST)/.groups ## build the wheel, install it, run pytest against it: a part that takes minutes
	@$(PYTEST) $(ARGS)
	@$(if $(ARGS),,FLOWTRACE_PURE=1 $(PYTEST) $(BOTH))

.PHONY: test-each
test-each: $(TEST)/.groups ## the same with a case of every test, also of those that take long
	@$(PYTEST) --each $(ARGS)
	@$(if $(ARGS),,FLOWTRACE_PURE=1 $(PYTEST) $(BOTH))

.PHONY: test-all
test-all: $(TEST)/.groups ## the same with every combinatorial case and all that takes long
	@$(PYTEST) --all $(ARGS)
	@$(if $(ARGS),,FLOWTRACE_PURE=1 $(PYTEST) $(BOTH))

.PHONY: test-browser
test-browser: $(TEST)/.groups ## run the tests that open pages in a Chromium (apt-get install chromium; Node.js)
	@$(call pip,$(TEST)) --group browser
	@$(call pip,$(TEST)) --group docs
	@cd web && npm ci --no-audit --no-fund --ignore-scripts || echo "without npm, the tests that need it are skipped"
	@$(PYTEST) -m browser tests $(ARGS)

.PHONY: test-frameworks
test-frameworks: $(foreach name,$(FRAMEWORKS),framework-$(name)) ## run the pages about frameworks, each group in an environment of its own

framework-%: $(DIST)/.built
	@[ -x .venv/$(VERSION)-$*/bin/python ] || $(PYTHON) -m venv --clear --without-pip .venv/$(VERSION)-$*
	@$(call pip,.venv/$(VERSION)-$*) --group frameworks-$* $(WHEEL)
	@$(call pip,.venv/$(VERSION)-$*) --force-reinstall --no-deps $(WHEEL)
	@.venv/$(VERSION)-$*/bin/python -m pytest -m frameworks tests/test_docs.py $(ARGS)

.PHONY: screenshots
screenshots: $(TEST)/.groups ## make the pictures of the page on the page about `flowtrace view`
	@$(call pip,$(TEST)) --group browser
	@SCREENSHOTS=docs/pages/howto/view $(TEST)/bin/pytest -q tests/page/test_screenshots.py

.PHONY: native-checks
native-checks: $(TEST)/.groups ## look for faults of the native core: sanitizers, a debug Python, no memory, random programs
	@$(TEST)/bin/python tests/native/run.py --installer $(BUILD)/bin/python $(ARGS)

.PHONY: kill-loop
kill-loop: $(TEST)/.groups ## kill programs that write traces, 1,000 times, and look at every file
	@$(TEST)/bin/python tests/durable/kill_loop.py --rounds 1000 $(ARGS)

.PHONY: soak
soak: $(TEST)/.groups ## a service with forks, failures and a flapping disk, for 3 minutes: nothing may grow
	@$(TEST)/bin/python tests/durable/soak.py $(ARGS)

.PHONY: conformance
conformance: $(PEERS)/.groups ## run the conformance checks on other decorators too, write the page
	@$(PEERS)/bin/python bench/conformance_peers.py $(ARGS)

.PHONY: bench
bench: $(PEERS)/.groups ## measure what flowtrace costs beside other decorators, write the page
	@$(PEERS)/bin/python bench/benchmark.py $(ARGS)

.PHONY: bench-quick
bench-quick: $(PEERS)/.groups ## the central rows of it, in less than a minute
	@$(PEERS)/bin/python bench/benchmark.py --quick $(ARGS)

.PHONY: thirdparty
thirdparty: $(DIST)/.built ## run other packages' own tests with every function of theirs decorated, write the page
	@$(PYTHON) tests/thirdparty/run.py --flowtrace $(WHEEL) $(if $(filter file,$(origin SUITES)),--page) $(SUITES)

.PHONY: lint
lint: ruff-check ruff-format imports ## ruff's rules, ruff's format, the import contracts

.PHONY: types
types: mypy pyright ## mypy and pyright, both strict

.PHONY: docs
docs: $(DEV)/.groups ## build the documentation into site/, and with its next generator into docs/site/
	@$(DEV)/bin/python docs/generate.py --check
	@$(DEV)/bin/mkdocs build --strict -f docs/mkdocs.yml -d $(CURDIR)/site
	@$(DEV)/bin/zensical build --strict --clean -f docs/mkdocs.yml

.PHONY: docs-serve
docs-serve: $(DEV)/.groups ## show the documentation while you write it
	@$(DEV)/bin/mkdocs serve -f docs/mkdocs.yml

.PHONY: format
format: $(DEV)/.groups ## format the code and apply ruff's safe fixes
	@$(DEV)/bin/ruff check --fix --exit-zero --quiet .
	@$(DEV)/bin/ruff format .

.PHONY: wheel
wheel: $(DIST)/.built ## build the wheel and the source archive into dist/
	@ls $(DIST)/flowtrace-*

.PHONY: wheel-pure
wheel-pure: | $(BUILD)/.ready ## build the wheel without the native core, for every platform, and the source archive
	@$(call pip,$(BUILD)) --group build --group release
	@FLOWTRACE_BUILD_PURE=1 $(BUILD)/bin/python -m build --no-isolation --outdir dist/pure .
	@$(BUILD)/bin/twine check --strict dist/pure/*
	@rm -rf build

.PHONY: clean
clean: ## remove all that make made
	rm -rf .venv dist site docs/site docs/.cache artifacts .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the parts of lint and types, also called by the pre-commit hooks -------------------------

.PHONY: ruff-check ruff-format imports mypy pyright
ruff-check: $(DEV)/.groups
	@$(DEV)/bin/ruff check .

ruff-format: $(DEV)/.groups
	@$(DEV)/bin/ruff format --check .

imports: $(DEV)/.groups
	@$(DEV)/bin/lint-imports --no-logo

mypy: $(DEV)/.groups
	@$(DEV)/bin/mypy

pyright: $(DEV)/.groups
	@$(DEV)/bin/pyright --pythonpath $(DEV)/bin/python flowtrace
	@$(DEV)/bin/python tests/typing/check.py pyright

# --- environments and the wheel --------------------------------------------------------------
# Each step leaves an empty file behind, so that the next run skips it while nothing has changed.

VENV = @$(if $(VERSION),,echo 'flowtrace needs Python 3.11 or newer; "$(PYTHON)" is not (set PYTHON=...)' >&2; exit 1)

# A pip that knows --group (25.1 or newer), for itself and all the others.
$(BUILD)/.ready:
	$(VENV)
	@echo 'setting up $(BUILD)'
	@$(PYTHON) -m venv --clear $(BUILD)
	@$(BUILD)/bin/python -m pip install --help | grep -q -e --group || $(call pip,$(BUILD)) --upgrade pip
	@touch $@

%/.ready: | $(BUILD)/.ready
	$(VENV)
	@echo 'setting up $*'
	@$(PYTHON) -m venv --clear --without-pip $*
	@touch $@

# Built with the Python that is tested, since the native core is made for one version; in a folder of its own, so that no
# earlier build leaves anything in the wheel.
$(DIST)/.built: $(SOURCES) | $(BUILD)/.ready
	@$(call pip,$(BUILD)) --group build
	@rm -rf $(DIST) build
	@log=$$($(BUILD)/bin/python -m build --no-isolation --outdir $(DIST) . 2>&1) || { echo "$$log" >&2; exit 1; }
	@rm -rf build
	@touch $@

# The test environment holds the wheel itself, never a link to the source folder ...
$(TEST)/.wheel: $(DIST)/.built | $(TEST)/.ready
	@$(call pip,$(TEST)) --force-reinstall --no-deps --compile $(WHEEL)
	@touch $@

# ... and what the wheel and its tests need.
$(TEST)/.groups: pyproject.toml | $(TEST)/.wheel
	@$(call pip,$(TEST)) --group test $(WHEEL)
	@touch $@

# The decorators that flowtrace is compared with, and the wheel.
$(PEERS)/.groups: pyproject.toml $(DIST)/.built | $(PEERS)/.ready
	@$(call pip,$(PEERS)) --group peers
	@$(call pip,$(PEERS)) --force-reinstall --no-deps $(WHEEL)
	@$(call pip,$(PEERS)) $(WHEEL)
	@touch $@

$(DEMO)/.package: $(SOURCES) | $(DEMO)/.ready
	@echo 'building flowtrace, and installing it into $(DEMO): less than a minute, once'
	@$(call pip,$(DEMO)) '.[cli]'
	@touch $@

# "compat": a path that type checkers can follow, in place of an import hook.
$(DEV)/.groups: pyproject.toml | $(DEV)/.ready
	@$(call pip,$(DEV)) --group lint --group docs --config-settings editable_mode=compat --editable .
	@touch $@
