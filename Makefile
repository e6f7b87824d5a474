# Two commands are all a newcomer needs: `make demo` and `make test`. Both make and reuse .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 2

.PHONY: demo test test-all lint types contracts format bench results clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else f"momkd needs Python 3.10 to 3.13, got {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	# an encoder whose package asks for CUDA, which it does not need
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'lavlab-shell>=0.9; python_version < "3.13"'
	touch $@

demo: $(STAMP)
	$(BIN)/momkd demo -o demo-run

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# NumPy's last version for Python 3.10 has stubs that know too little: types are checked from 3.11 on
types: $(STAMP)
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  echo $(BIN)/mypy; $(BIN)/mypy; \
	else echo 'types: not checked with Python 3.10'; fi

contracts: $(STAMP)
	$(BIN)/lint-imports

test: lint types contracts
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

# triton's interpreter runs the programs for cards without a card; 280 MB that make test can spare
test-all: lint types contracts
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cuda,browser]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# ratios want a quiet machine; see docs/speed.md. BENCH="--sizes 50000 --reference DIR" for more
bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py $(BENCH)

clean:
	rm -rf $(VENV) demo-run .mypy_cache .ruff_cache .pytest_cache .hypothesis
