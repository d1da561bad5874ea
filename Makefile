# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test test-slow docs mutants check format bench bench-truth pictures clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed  ## install, run the practice study, print the result and the path of the report
	$(BIN)/kiyas demo

test: $(VENV)/.installed-dev  ## install what tests need and run them (minutes)
	$(BIN)/python -m pytest -m "not slow" -n 2 --no-loadscope-reorder

test-slow: $(VENV)/.installed-dev  ## the long proofs
	$(BIN)/python -m pytest -m slow

docs: $(VENV)/.installed-dev  ## the documentation as a site, in build/site; a broken link is an error (seconds)
	$(BIN)/python scripts/docs.py

mutants: $(VENV)/.installed-dev  ## would the tests notice a mistake? Mutants of the pure files (half an hour; N=all: a night; SEED=, FILES=)
	$(BIN)/python scripts/mutants.py --n $(or $(N),25) --seed $(or $(SEED),0) $(FILES)

check: $(VENV)/.installed-dev  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## put everything in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## the practice study against the usual way, stage by stage; the report at full size; memory and time over sizes; plans against runs (about an hour)
	$(BIN)/python benchmarks/usual_way.py
	$(BIN)/python benchmarks/report_size.py
	$(BIN)/python benchmarks/soak.py --programs 12500 25000 50000 100000
	$(BIN)/python benchmarks/soak.py --checkpoints --programs 12500 25000 50000 100000 --nodes 2
	$(BIN)/python benchmarks/stopping.py
	$(BIN)/python benchmarks/cluster_plan.py

bench-truth: $(VENV)/.installed-dev  ## how often the conclusion is wrong: simulated and real small studies (about an hour)
	$(BIN)/python benchmarks/false_positives.py
	$(BIN)/python benchmarks/overfitting_rule.py
	$(BIN)/python benchmarks/forgetting_null.py
	$(BIN)/python benchmarks/practice_truth.py

pictures: $(VENV)/.installed-dev  ## docs/report.png and report-dark.png, from the practice study (minutes; Chromium)
	$(BIN)/python scripts/pictures.py

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .cache build

$(VENV)/.torch: scripts/venv.sh
	PYTHON="$(PYTHON)" sh scripts/venv.sh $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(PIP) install -e '.[train]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.installed
