PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: install test lint demo bench bench-large bench-cluster proto lock clean

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest

demo: install
	$(BIN)/scaler demo $(if $(TRACE),--trace $(TRACE))

bench: install
	$(BIN)/python -m tests.bench

bench-large: install
	$(BIN)/python -m tests.bench.large

bench-cluster: install
	$(BIN)/python -m tests.bench.cluster

proto: install
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. service/proto/scaler.proto

lock:
	$(BIN)/pip-compile -q --upgrade --all-extras --allow-unsafe --generate-hashes --strip-extras \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-annotate --no-header \
		--output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
