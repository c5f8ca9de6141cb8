# The only entry to build, check, run, test and measure. `make` alone prints this help.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Variables, as in `make demo DATABASE=mysql`.
DATABASE ?= sqlite
PROFILE ?= planning-2020
SEED ?= 1
DIR ?= run
SECONDS ?= 60
CRASHES ?= 20
COSTS ?=
FORM ?= short
RESULTS ?= target/$(notdir $(basename $(SCENARIO))).jsonl

RELEASE := target/release

.PHONY: help
help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/' | expand -t 14

# Every day ------------------------------------------------------------------------------------

.PHONY: check fmt lint outdated test test-tls
check: ## type-check everything
	cargo check --workspace --all-targets

fmt: ## format
	cargo fmt --all

lint: ## formatting, clippy, docs, licences and bans; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features efgs-benches/counts -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items
	@.ci/deny

outdated: ## dependencies that are behind their newest version; never fails
	@cargo update --dry-run --verbose 2>&1 | grep -E '^ +(Updating|Unchanged) .* v' || true

test: packages ## all tests, on SQLite and on a private MariaDB
	cargo test --workspace --all-targets
	cargo test --workspace --doc

test-tls: packages ## the same tests, with every private MariaDB requiring TLS (some do in `make test`, too)
	EFGS_TEST_DATABASE_TLS=1 cargo test --workspace --lib --tests

# Run ------------------------------------------------------------------------------------------

.PHONY: build demo run practice load db
build: ## build the three programs, optimised
	cargo build --release --package efgs-api --package efgs-backend --package efgs-loadgen

demo: ## upload, deliver and verify a day of Europe's keys (DATABASE=mysql for MariaDB, galera for a cluster)
	@if [ "$(DATABASE)" != sqlite ]; then $(MAKE) --no-print-directory packages; fi
	cargo build --profile demo --package efgs-api --package efgs-loadgen
	@target/demo/loadgen demo --efgs target/demo/efgs --database $(DATABASE) --profile $(PROFILE) --seed $(SEED)

run: build ## run a gateway on the folder $(DIR), which is kept
	@[ -e $(DIR)/efgs.toml ] || $(RELEASE)/efgs init --dir $(DIR)
	$(RELEASE)/efgs serve --config $(DIR)/efgs.toml

practice: build ## run a practice gateway with peers that upload made-up keys, on ./practice
	@[ -e practice/efgs.toml ] || $(RELEASE)/efgs init --practice --dir practice
	$(RELEASE)/efgs serve --config practice/efgs.toml

load: build ## put a profile's day on the gateway of `make run` and verify it; or SCENARIO=steady on a private one
ifdef SCENARIO
	@if [ "$(DATABASE)" != sqlite ]; then $(MAKE) --no-print-directory packages; fi
	$(RELEASE)/loadgen run --scenario $(SCENARIO) --local $(DATABASE) --results $(RESULTS)
else
	$(RELEASE)/loadgen run --pki $(DIR)/pki --target https://127.0.0.1:8443 --profile $(PROFILE) --seed $(SEED) --record $(DIR)/load.jsonl
	$(RELEASE)/loadgen verify --pki $(DIR)/pki --target https://127.0.0.1:8443 --record $(DIR)/load.jsonl
endif

db: build ## show the schema version of the database of `make run`
	$(RELEASE)/efgs db status --config $(DIR)/efgs.toml

.PHONY: package
package: build ## make the Debian package with the three programs: target/package/*.deb
	deploy/debian/build $(RELEASE) target/package

# Measure --------------------------------------------------------------------------------------

# Where `make perf` writes its dated report; perf-reports to commit it.
REPORTS ?= target/perf-reports
PERF_PARTS ?= cpu,ingest,stored,visible,download,tls

.PHONY: bench perf perf-report perf-counts perf-accept perf-allocators perf-tools perf-build
bench: packages ## criterion benches, one file per stage
	cargo bench --package efgs-benches

perf: perf-build ## run the regression suite: counts and ratios against the baseline, under 10 minutes
	$(RELEASE)/perf suite --reports $(REPORTS) --only $(PERF_PARTS)

perf-report: ## the same, with the report in perf-reports/
	@$(MAKE) --no-print-directory perf REPORTS=perf-reports

perf-counts: perf-tools ## instruction counts only, as in CI
	cargo run --quiet --package efgs-perf -- counts

perf-accept: perf-build ## accept the current figures as the baseline (REASON="…", to be committed with it)
	@[ -n "$(REASON)" ] || { echo 'say why: make perf-accept REASON="…"' >&2; exit 1; }
	$(RELEASE)/perf suite --reports $(REPORTS) --only $(PERF_PARTS) --accept "$(REASON)"

perf-allocators: perf-build ## compare mimalloc with the system's allocator: ingest and memory
	cargo build --release --package efgs-api --features system-allocator
	cp $(RELEASE)/efgs $(RELEASE)/efgs-system-allocator
	@$(MAKE) --no-print-directory build
	$(RELEASE)/perf suite --reports $(REPORTS) --without-counts --only none --system-allocator $(RELEASE)/efgs-system-allocator

perf-build: perf-tools
	cargo build --release --package efgs-api --package efgs-loadgen --package efgs-perf

perf-tools:
	@.ci/packages perf
	@.ci/gungraun

.PHONY: plan
plan: build ## write a capacity plan for PROFILE to plan.html (COSTS=FILE: your own unit costs)
	@$(RELEASE)/loadgen plan --profile $(PROFILE) $(if $(COSTS),--costs $(COSTS)) --html

# Dig ------------------------------------------------------------------------------------------

.PHONY: attacks backend-kills conformance crash fuzz fuzz-check fuzz-minimise galera-fairness interleavings model sim
attacks: ## attack a gateway for $(SECONDS) seconds in each way; prints the table of docs
	cargo build --release --package efgs-api
	EFGS_ATTACK_SECONDS=$(SECONDS) cargo test --release --package efgs-api --test hostile_http -- --nocapture attacks

backend-kills: ## kill efgs-backend, gateway and connections 1,000 times (SEED): no key lost, none doubled
	cargo build --package efgs-api --bin efgs
	EFGS_BACKEND_KILLS=1000 EFGS_SEED=$(SEED) cargo test --package efgs-backend --test kills -- --nocapture

conformance: ## run schemathesis against the API description (SEED, EXAMPLES); needs PyPI once
	SEED=$(SEED) .ci/schemathesis

crash: packages ## run the crash tests with the seed $(SEED), in their long form of $(CRASHES) crashes (DATABASE=galera: on a cluster)
	EFGS_SEED=$(SEED) EFGS_CRASHES=$(if $(filter galera,$(DATABASE)),4,$(CRASHES)) cargo test --package efgs-api --test crash -- --nocapture $(filter galera,$(DATABASE))

# The seeded ones need no instrumentation; TARGETS="json_body http" for some of the guided ones.
fuzz: ## fuzz everything that reads hostile bytes for $(SECONDS) seconds each, guided and seeded
	.ci/fuzz $(SECONDS) $(TARGETS)
	EFGS_FUZZ_SECONDS=$(SECONDS) EFGS_SEED=$(SEED) cargo test --package efgs-engine --test hostile_bytes -- --nocapture
	EFGS_FUZZ_SECONDS=$(SECONDS) EFGS_SEED=$(SEED) cargo test --package efgs-api --lib -- --nocapture fuzzing
	EFGS_FUZZ_SECONDS=$(SECONDS) EFGS_SEED=$(SEED) cargo test --package efgs-api --test hostile_http -- --nocapture survives

fuzz-check: ## whether the fuzz targets compile, without instrumentation
	cargo check --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz-check

fuzz-minimise: ## take what the fuzzers have found into the committed corpora, minimised
	.ci/fuzz minimise $(TARGETS)

galera-fairness: build packages ## how long large uploads wait among small ones on a Galera cluster, $(SECONDS) seconds per order of hosts
	$(RELEASE)/loadgen fairness --efgs $(RELEASE)/efgs --seconds $(SECONDS) --seed $(SEED)

interleavings: ## check the identity set with loom, and that each memory ordering is needed (FORM=long)
	cargo run --quiet --manifest-path engine/interleavings/Cargo.toml --target-dir target/interleavings -- $(FORM)

model: ## model-check the log protocol, with larger bounds than the tests; takes minutes
	EFGS_MODEL=long cargo test --release --package efgs-engine --test log_model -- --nocapture keeps

sim: packages ## simulate weeks with faults and restores, random seeds for $(SECONDS) seconds per database (EFGS_SEED)
	EFGS_SIM_SECONDS=$(SECONDS) cargo test --package efgs-engine --test simulation -- --nocapture

# What tests need of the system ----------------------------------------------------------------

.PHONY: packages
packages:
	@.ci/packages
