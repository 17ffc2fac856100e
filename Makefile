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

# What each verb takes: the options of that name of "python -m harness VERB"; NAME=1 is a switch.
TAKES_bench := SUITE DATASETS LOOK_BACKS HORIZONS METHODS SEEDS DATA RESULTS JOBS DEVICE PER_GPU EXECUTOR CPUS TIMEOUT FORCE=1 PLAN=1 BY OFFLINE=1 WAIT=1
TAKES_leaderboard := SUITE RESULTS
TAKES_export := SUITE FORMAT OUT RESULTS
TAKES_validate := RESULTS
TAKES_merge := FROM RESULTS
TAKES_rerun := KEY RESULTS DATA DEVICE
TAKES_track := SUITE RESULTS
TAKES_ui := SUITE RESULTS PORT
TAKES_tune := SUITE DATASETS LOOK_BACKS HORIZONS METHODS TRIALS STORAGE DATA RESULTS JOBS DEVICE
TAKES_check := METHOD
TAKES_data := SUITE DATASETS DATA
TAKES_perf := RESULTS DATA DEVICE PATCHERS=1 PEERS
TAKES_hindsight := SUITE DATASETS LOOK_BACKS HORIZONS DATA RESULTS DEVICE
TAKES_simulate := RESULTS
TAKES_status := SUITE DATASETS LOOK_BACKS HORIZONS METHODS SEEDS DATA RESULTS BY
VERBS := bench leaderboard export validate merge rerun track ui tune check data perf hindsight simulate status
VARIABLES := $(sort $(foreach verb,$(VERBS),$(TAKES_$(verb))))

# $(options): --suite and --methods with the values of SUITE and METHODS, of all that the verb takes,
# quoted for the shell whatever they contain; a variable that is not set leaves nothing.
lower = $(shell printf %s '$(1)' | tr A-Z_ a-z-)
quote = '$(subst ','\'',$(1))'
switch = $(if $(filter-out 0 no false,$(value $(1))),--$(lower))
option = $(if $(value $(1)),--$(lower) $(call quote,$(value $(1))))
takes = $(if $(filter %=1,$(1)),$(call switch,$(patsubst %=1,%,$(1))),$(call option,$(1)))
options = $(foreach name,$(TAKES_$@),$(call takes,$(name)))

# A misspelt variable would be no word to make, and the verb would do something else than was asked.
OWN := PYTHON VENV PATCHBENCH SHELL MAKE% MFLAGS -%
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command,$(origin $(name))),$(name)))
TAKEN := $(patsubst %=1,%,$(foreach verb,$(MAKECMDGOALS),$(TAKES_$(verb))))
STRANGE := $(firstword $(filter-out $(OWN) $(TAKEN),$(GIVEN)))
# $(call nearest,METHOD,SEEDS METHODS): the name that takes the fewest edits, if these are few.
nearest = $(shell printf '%s\n' $(2) | awk -v word=$(call quote,$(1)) ' \
	function min(a, b) { return a < b ? a : b } \
	{ for (j = 0; j <= length(word); j++) row[j] = j; \
	  for (i = 1; i <= length($$0); i++) { before = row[0]; row[0] = i; \
	    for (j = 1; j <= length(word); j++) { \
	      edits = min(min(row[j], row[j - 1]) + 1, \
	        before + (substr($$0, i, 1) != substr(word, j, 1))); \
	      before = row[j]; row[j] = edits } } \
	  if (NR == 1 || row[length(word)] < fewest) { fewest = row[length(word)]; best = $$0 } } \
	END { if (2 * fewest < length(word)) print best }')
ifneq ($(STRANGE),)
NEAR := $(call nearest,$(STRANGE),$(TAKEN))
$(error make $(or $(MAKECMDGOALS),help) takes no $(STRANGE)$(if $(NEAR),; did you mean $(NEAR)?,.) It takes $(or $(TAKEN),no variables))
endif

.PHONY: help setup bench test golden test-browser lint docs leaderboard export validate merge rerun track ui tune check methods data perf hindsight clean status chaos simulate mutants

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

$(STAMP): pyproject.toml constraints.txt
	@python=; \
	for candidate in $(VENV)/bin/python $(PYTHON); do \
		if "$$candidate" -c '$(USABLE)' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if test -z "$$python"; then \
		echo 'patchbench needs Python 3.11, 3.12 or 3.13 with its venv module.' >&2; \
		echo 'None of these is one: $(PYTHON)' >&2; \
		echo 'Install it (Debian: python3 and python3-venv) or name it: make setup PYTHON=...' >&2; \
		exit 1; \
	fi; \
	"$$python" install.py $(VENV)

bench: $(STAMP) ## run what is missing of SUITE (quickstart by default) and show the leaderboard
	@$(PATCHBENCH) $@ $(options)

chaos: $(STAMP) ## kill a bench at twenty moments and see that nothing is lost; what a run costs
	@$(PATCHBENCH) chaos

mutants: $(STAMP) ## break the science code in one place at a time and see that a test notices
	@$(VENV)/bin/python tests/mutants.py

simulate: $(STAMP) ## measure on made-up leaderboards how often a verdict is wrong or missed
	@$(PATCHBENCH) $@ $(options)

# A file of tests stays with one process, so that what its tests share is made once.
test: $(STAMP) ## run the tests, on all cores; in one process: .venv/bin/python -m pytest
	@$(VENV)/bin/python -m pytest -n logical --dist loadfile

golden: $(STAMP) ## write the golden digits anew; other digits only after PROTOCOL was raised
	@$(VENV)/bin/python tests/golden/measure.py tests/golden

test-browser: $(STAMP) ## try the page, and MLflow's, in Chromium (PATH or PATCHBENCH_CHROMIUM)
	@$(VENV)/bin/python -c 'import axe_playwright_python, playwright' 2>/dev/null || \
		$(VENV)/bin/python -m pip install -qq --disable-pip-version-check \
			--constraint constraints.txt --editable '.[browser]'
	@$(VENV)/bin/python -m pytest tests/browser_page.py
	@$(VENV)/bin/python -m pytest tests/browser_mlflow.py

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
	@$(PATCHBENCH) $@ $(options)

export: $(STAMP) ## write the rows of a zero-shot SUITE in the form of fev or gift, FORMAT, to OUT
	@$(PATCHBENCH) $@ $(options)

validate: $(STAMP) ## hold every row in results/ to its suite, budget and code; name all that is wrong
	@$(PATCHBENCH) $@ $(options)

merge: $(STAMP) ## take in the rows of another results folder, FROM, that are not in RESULTS
	@$(PATCHBENCH) $@ $(options)

rerun: $(STAMP) ## do the run of the row with KEY again and compare; the row stays as it is
	@$(PATCHBENCH) $@ $(options)

track: $(STAMP) ## log in MLflow what it lacks of the runs and searches of SUITE
	@$(PATCHBENCH) $@ $(options)

ui: $(STAMP) ## open MLflow on the runs of SUITE, or of all suites, on 127.0.0.1
	@exec $(PATCHBENCH) $@ $(options)

tune: $(STAMP) ## search the hyperparameters of METHODS on validation data, with equal trials for each
	@$(PATCHBENCH) $@ $(options)

check: $(STAMP) ## hold METHOD to the promises that every method keeps
	@$(PATCHBENCH) $@ $(options)

methods: $(STAMP) ## list every method with its track and what it does
	@$(PATCHBENCH) methods

data: $(STAMP) ## fetch and verify DATASETS, or those of SUITE, into the user cache; or list them
	@$(PATCHBENCH) $@ $(options)

perf: $(STAMP) ## measure speed against a loop like the official PatchTST loop (PEERS=path: also itself), and patchers' costs (PATCHERS=1: these only)
	@$(PATCHBENCH) $@ $(options)

hindsight: $(STAMP) ## show what the best of many random plans of SUITE would gain; never ranked
	@$(PATCHBENCH) $@ $(options)

status: $(STAMP) ## say what of SUITE is done, failed or missing
	@$(PATCHBENCH) $@ $(options)

clean: ## remove build products and caches; keeps results/ and .venv
	rm -rf build *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find harness methods tests -type d -name __pycache__ -prune -exec rm -rf {} +
