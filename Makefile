# Three commands do all the set-up on a fresh machine with Python and git: `make demo`, `make test` and, on Debian, `make cpp`.

PYTHON ?= python3
BIN := .venv/bin
CORE := .venv-core/bin
DEMO := demo-output
NODE := examples/node/node_modules

# ONNX Runtime, also in C++ and Node.js: sends nothing to its maker.
export ORT_DISABLE_TELEMETRY := 1

.PHONY: demo test lint types imports unit core wheel node cpp clean

demo: .venv/ready
	$(BIN)/seggd-rt export examples/cardiac/cardiac.pt -o $(DEMO)/cardiac.seggd --force
	$(BIN)/seggd-rt generate $(DEMO)/cardiac.seggd --mask examples/cardiac/masks -o $(DEMO)/images --seed 0 --force
	$(BIN)/seggd-rt generate $(DEMO)/cardiac.seggd --mask examples/cardiac/masks -o $(DEMO)/ablated --seed 0 --force \
		--keep "LV cavity,myocardium"
	$(BIN)/python examples/contact_sheet.py examples/cardiac/masks $(DEMO)

test: lint types imports unit core wheel

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/ready
	$(BIN)/mypy

imports: .venv/ready
	$(BIN)/lint-imports

unit: .venv/ready
	$(BIN)/pytest

# The runtime alone, from the built wheel, in an environment that has neither torch nor diffusers.
core: .venv-core/ready
	! $(CORE)/python -c "import torch" 2>/dev/null
	$(CORE)/pytest --ignore tests/benchmarks --ignore tests/export --ignore tests/training

wheel: .venv-core/ready
	$(BIN)/python tests/check_wheel.py dist/core/*.whl

# The C++ SDK, on the ONNX Runtime of the wheel.
cpp: .venv/ready
	cpp/check.sh $$(ls .venv/lib/python3.*/site-packages/onnxruntime/capi/libonnxruntime.so.*)

# The lower bounds of pyproject.toml are for users; constraints.txt pins what a plain range would make gigabytes.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet -c constraints.txt -e ".[cpu,export,train,eval,tensorrt-rtx,nifti,dicom,sign,card]" --group dev
	touch $@

.venv-core/ready: .venv/ready $(shell find seggd_rt engines export training cli -name '*.py' -o -name py.typed)
	rm -rf dist/core
	$(BIN)/python -m build --quiet --wheel --outdir dist/core .
	test -x $(CORE)/pip || $(PYTHON) -m venv .venv-core
	$(CORE)/pip install --quiet --upgrade "pip>=25.1"
	$(CORE)/pip install --quiet "$$(ls dist/core/*.whl)[cpu]" hypothesis pytest
	$(CORE)/pip install --quiet --force-reinstall --no-deps dist/core/*.whl
	touch $@

# ONNX Runtime for Node.js, for examples/node and its tests, which skip without it. Its scripts would fetch CUDA.
node: $(NODE)/ready

$(NODE)/ready: examples/node/package.json
	npm install --prefix examples/node --ignore-scripts --no-package-lock --no-audit --no-fund --silent
	touch $@

clean:
	rm -rf .venv .venv-core build dist $(NODE) $(DEMO)
