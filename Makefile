# make book: runs every notebook and renders the book to _build/html/index.html
# make test: linter, type checker, tests
# make lab: opens the notebooks in JupyterLab
# All set up $(VENV) first. Variables: PYTHON, VENV, PIP_FLAGS, JOBS (notebooks at a time),
# LAB_FLAGS (options of JupyterLab, such as --no-browser).

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
JOBS ?= 2
LAB_FLAGS ?=

# Set up again when the lock changes, and only then.
STAMP := $(VENV)/.lock-$(shell cksum < requirements.lock | cut -d ' ' -f 1)
RUN := $(VENV)/bin/python

.PHONY: book test test-all lab lint format clean
.DEFAULT_GOAL := book

book: $(STAMP)
	$(RUN) tools/build_book.py --jobs $(JOBS)

test: lint
	$(RUN) -m pytest -q -m "not slow"

test-all: lint
	$(RUN) -m pytest -q

# The variable: the kernel python3 is the one of $(VENV), not one in the user's home.
lab: $(STAMP)
	JUPYTER_PREFER_ENV_PATH=1 $(RUN) -m jupyterlab --LabApp.default_url=/lab/tree/notebooks $(LAB_FLAGS)

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(STAMP)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache

$(STAMP): requirements.lock
	@command -v $(PYTHON) > /dev/null || { \
	  echo "make: needs Python 3.11 or newer, found no '$(PYTHON)'." \
	       "Install it, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1)." \
	       "Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@if [ -x $(RUN) ]; then \
	  $(RUN) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: needs Python 3.11 or newer, found $$($(RUN) --version 2>&1) in" \
	         "$(VENV). Remove that folder, or choose another: make VENV=.venv-new" >&2; \
	    exit 1; }; fi
	@$(RUN) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check $(PIP_FLAGS) -r requirements.lock
	$(RUN) -m pip install --disable-pip-version-check --no-deps --no-build-isolation -q -e . -e book
	@rm -f $(VENV)/.lock-* && touch $@
