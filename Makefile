# Every target works on a fresh machine that has nothing but Python >= 3.11: it makes its own .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Extra arguments for pip, e.g. PIP_ARGS="-c constraints.txt".
PIP_ARGS ?=
# One process for each core, a file of tests in one piece; empty: one after the other.
PARALLEL ?= -n auto --dist loadfile

.PHONY: demo test slow lint bench pipelines clean

demo: $(VENV)/.demo  ## audit ten loaders and trainings and leave an HTML report of each under reports/
	$(BIN)/dpaudit check audits --reports reports

test: $(VENV)/.test  ## the fast tests
	$(BIN)/python -m pytest $(PARALLEL)

slow: $(VENV)/.test  ## calibration of every guarantee, comparisons with peers
	$(BIN)/python -m pytest -m slow $(PARALLEL)

lint: $(VENV)/.lint  ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## every figure that the README states
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# TensorFlow and the Triton of CUDA builds of PyTorch crash each other in one process.
pipelines: TENSORFLOW = tf_ or tfprivacy or keras or tensorflow
pipelines: IN_PIPELINES = .venv-pipelines/bin/python -m pytest -m "slow or not slow" $(PARALLEL:loadfile=load)
pipelines: export VENV = .venv-pipelines
pipelines:  ## the gallery with all libraries that can be installed, in an environment of their own
	$(MAKE) .venv-pipelines/.pipelines
	$(IN_PIPELINES) -k "not ($(TENSORFLOW))" tests/pipelines tests/instrument/test_jax_script.py
	$(IN_PIPELINES) -k "$(TENSORFLOW)" tests/pipelines tests/instrument/test_tensorflow_script.py \
		tests/instrument/test_tensorflow_beside.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo $(VENV)/.test $(VENV)/.bench $(VENV)/.pipelines: $(VENV)/.%: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e ".[$*]"
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e ".[lint]"
	touch $@

clean:
	rm -rf $(VENV) .venv-pipelines
