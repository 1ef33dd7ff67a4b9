# The study in short commands; workflow/Snakefile says what depends on what.
PROFILE ?= cpu
PYTHON ?= python3
PORT ?= 8000
EXECUTOR ?= local
GPUS ?= 0

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup reproduce train test mutants notebooks book pdf publish bases serve bench gpu lint clean

help: ## List these targets
	@echo "usage: make TARGET [PROFILE=smoke|cpu|...] [PYTHON=python3]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install everything in it

reproduce: $(STAMP) ## Train what this machine has no record of, execute the notebooks, build the book; DRY=1 says what
	@$(BIN)/python -m repro reproduce --profile $(PROFILE) --executor $(EXECUTOR) --gpus $(GPUS) $(if $(DRY),--dry-run)

train: $(STAMP) ## Only train; ARGS="--cores 14 --minutes 9" packs and limits it, the next call goes on
	@$(BIN)/python -m repro train --profile $(PROFILE) $(ARGS)

test: ARGS ?= -n auto --dist loadfile
test: $(STAMP) ## Run the tests, a process a core; ARGS=tests/claims runs only these, in one
	@$(BIN)/python -m pytest $(ARGS)

mutants: $(STAMP) ## Break the code in small ways and see that the tests notice; takes long
	@$(BIN)/python -m tests.mutation $(ARGS)

notebooks: $(STAMP) ## Make build/ipynb/*.ipynb, for Jupyter and Colab, from notebooks/*.py
	@$(BIN)/python -m repro notebooks

book: $(STAMP) ## Execute the notebooks on the recorded runs and build the book, without training
	@$(BIN)/python -m repro book --profile $(PROFILE)

pdf: book ## Print the book to build/PROFILE/book.pdf, by a headless Chromium
	@$(BIN)/python -m repro pdf --profile $(PROFILE)

publish: book ## Put the book into build/PROFILE/publish, ready for any static host
	@rm -rf build/$(PROFILE)/publish && cp -R build/$(PROFILE)/site build/$(PROFILE)/publish
	@rm -f build/$(PROFILE)/publish/.made && touch build/$(PROFILE)/publish/.nojekyll
	@echo "the site is build/$(PROFILE)/publish"

bases: $(STAMP) ## Train the base policies again, into bases/
	@$(BIN)/python -m repro bases

serve: $(STAMP) ## Preview the built book on http://localhost:8000 (PORT=8000)
	@$(BIN)/python -m http.server --bind localhost --directory build/$(PROFILE)/site $(PORT)

bench: $(STAMP) ## Benchmark the operators on the CPU
	@$(BIN)/python -m benchmarks.run

gpu: $(STAMP) ## Test and benchmark on a GPU
	@$(BIN)/python -m benchmarks.gpu

lint: $(STAMP) ## Check the code's style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean: ## Remove what was built; the recorded runs and .venv stay
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name runs -exec rm -rf {} +; fi

# The stamp comes last, so an interrupted installation is taken up again by the next call. Torch comes first and alone:
# its CUDA builds bring a Triton of their own, so the tested Triton is installed only where torch brought none, and the
# remaining packages find both already there.
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || \
	    { echo "error: PYTHON=$(PYTHON) is not a command; name Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: PYTHON=$(PYTHON) is $$("$(PYTHON)" --version 2>&1), but 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "error: PYTHON=$(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@grep -v '^triton==' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install -q -c $(VENV)/constraints.txt torch==2.13.0
	@$(BIN)/python -c 'import triton' 2>/dev/null || \
	    $(BIN)/python -m pip install -q -c constraints.txt "triton; sys_platform == 'linux'"
	$(BIN)/python -m pip install -q -c $(VENV)/constraints.txt -e '.[study,audit,dev]'
	@touch $(STAMP)
