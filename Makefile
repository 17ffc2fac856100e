# The verbs of patchbench. `make` alone lists them. Everything lives in this checkout: the
# environment in .venv, results in results/; nothing global is installed or changed.
# Plain enough for GNU make 3.81, which macOS still ships.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first that is Python 3.11 to 3.13 and can make environments is used.
PYTHON ?= python3.11 python3.12 python3.13 python3 python
USABLE := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

VENV := .venv
STAMP := $(VENV)/.installed
PATCHBENCH := $(VENV)/bin/python -m harness

VARIABLES := SUITE DATASETS LOOK_BACKS HORIZONS METHODS METHOD KEY SEEDS DATA RESULTS JOBS DEVICE PER_GPU EXECUTOR CPUS TIMEOUT TRIALS STORAGE FORCE=1 PLAN=1 WAIT=1 PATCHERS=1

# $(call options,suite methods): --suite and --methods with the values of SUITE and METHODS,
# quoted for the shell whatever they contain; a variable that is not set leaves nothing.
upper = $(shell printf %s '$(1)' | tr a-z- A-Z_)
quote = '$(subst ','\'',$(1))'
option = $(if $(value $(2)),--$(1) $(call quote,$(value $(2))))
flag = $(if $(filter-out 0 no false,$(value $(2))),--$(1))
options = $(foreach name,$(1),$(call option,$(name),$(call upper,$(name))))

.PHONY: help setup bench test golden test-browser lint docs leaderboard validate rerun track ui tune check methods data perf hindsight clean status chaos simulate

help: ## list the verbs
	@echo 'make VERB [VARIABLE=value ...]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r verb text; do printf '  %-12s %s\n' "$$verb" "$$text"; done
	@echo
	@echo 'Variables, each the option of that name of "python -m harness VERB":'
	@echo '  $(VARIABLES)'

setup: $(STAMP) ## make .venv with everything in it, once; the other verbs do it themselves
	@echo '$(VENV) is up to date.'

# The stamp is written last, so that an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@if ! $(VENV)/bin/python -c 'import pip; $(USABLE)' 2>/dev/null; then \
		python=; \
		for candidate in $(PYTHON); do \
			if "$$candidate" -c '$(USABLE)' 2>/dev/null; then python=$$candidate; break; fi; \
		done; \
		if test -z "$$python"; then \
			echo 'patchbench needs Python 3.11, 3.12 or 3.13 with its venv module.' >&2; \
			echo 'None of these is one: $(PYTHON)' >&2; \
			echo 'Install it (Debian: python3 and python3-venv) or name it: make setup PYTHON=...' >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$("$$python" --version) ..."; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@echo 'Setting up $(VENV) from constraints.txt (once, about 3 minutes, most of them for torch) ...'
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

bench: $(STAMP) ## run what is missing of SUITE (quickstart by default) and show the leaderboard
	@$(PATCHBENCH) bench $(call options,suite datasets look-backs horizons methods seeds data results jobs device per-gpu executor cpus timeout) \
		$(call flag,force,FORCE) $(call flag,plan,PLAN) $(call flag,wait,WAIT)

chaos: $(STAMP) ## kill a bench at twenty moments and see that nothing is lost; what a run costs
	@$(PATCHBENCH) chaos

simulate: $(STAMP) ## measure on made-up leaderboards how often a verdict is wrong or missed
	@$(PATCHBENCH) simulate $(call options,results)

# A file of tests stays with one process, so that what its tests share is made once.
test: $(STAMP) ## run the tests, on all cores; in one process: .venv/bin/python -m pytest
	@$(VENV)/bin/python -m pytest -n logical --dist loadfile

golden: $(STAMP) ## write the golden digits anew; other digits only after PROTOCOL was raised
	@$(VENV)/bin/python tests/golden/measure.py tests/golden

test-browser: $(STAMP) ## try the page in Chromium, from PATH or PATCHBENCH_CHROMIUM
	@$(VENV)/bin/python -c 'import axe_playwright_python, playwright' 2>/dev/null || \
		$(VENV)/bin/python -m pip install -qq --disable-pip-version-check \
			--constraint constraints.txt --editable '.[browser]'
	@$(VENV)/bin/python -m pytest tests/browser_page.py

lint: $(STAMP) ## check format, style, types and who imports whom
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

docs: $(STAMP) ## build the site of docs/ into build/site, every warning an error
	@$(VENV)/bin/python docs/tree.py
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo 'Open build/site/index.html, or with its search: $(VENV)/bin/mkdocs serve'

leaderboard: $(STAMP) ## make the leaderboard, tables, figures and page of SUITE from its rows
	@$(PATCHBENCH) leaderboard $(call options,suite results)

validate: $(STAMP) ## hold every row in results/ to its suite, budget and code; name all that is wrong
	@$(PATCHBENCH) validate $(call options,results)

rerun: $(STAMP) ## do the run of the row with KEY again and compare; the row stays as it is
	@$(PATCHBENCH) rerun $(call options,key results data device)

track: $(STAMP) ## log in MLflow what it lacks of the runs and searches of SUITE
	@$(PATCHBENCH) track $(call options,suite results)

ui: $(STAMP) ## open MLflow on the local runs, on 127.0.0.1
	@$(PATCHBENCH) ui $(call options,results)

tune: $(STAMP) ## search the keywords of METHODS on validation data, with equal trials for each
	@$(PATCHBENCH) tune $(call options,suite datasets look-backs horizons methods trials storage data results jobs device)

check: $(STAMP) ## hold METHOD to the promises that every method keeps
	@$(PATCHBENCH) check $(call options,method)

methods: $(STAMP) ## list every method with its track and what it does
	@$(PATCHBENCH) methods

data: $(STAMP) ## fetch and verify DATASETS, or those of SUITE, into the user cache; or list them
	@$(PATCHBENCH) data $(call options,suite datasets data)

perf: $(STAMP) ## measure speed against a conventional loop, and patchers' costs (PATCHERS=1: these only)
	@$(PATCHBENCH) perf $(call options,results data) $(call flag,patchers,PATCHERS)

hindsight: $(STAMP) ## show what the best of many random plans of SUITE would gain; never ranked
	@$(PATCHBENCH) hindsight $(call options,suite datasets look-backs horizons data results device)

status: $(STAMP) ## say what of SUITE is done, failed or missing
	@$(PATCHBENCH) status $(call options,suite datasets look-backs horizons methods seeds data results)

clean: ## remove build products and caches; keeps results/ and .venv
	rm -rf build *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find harness methods tests -type d -name __pycache__ -prune -exec rm -rf {} +
