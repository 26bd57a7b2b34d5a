# Every target runs exactly what CI runs. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help deps build check unit test test-long e2e k8s e2e-k8s demo bench fuzz clean

CARGO ?= cargo
# Seconds for each fuzz target.
FUZZ_SECS ?= 60

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what building and testing need (Debian packages; as root or by sudo)
	@tools/install-deps

build: deps ## build every binary (release) into target/release
	$(CARGO) build --release

check: deps ## format, clippy with warnings denied, tidy, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) xtask tidy
	$(CARGO) xtask crds --check
	$(CARGO) xtask licences

unit: deps ## unit and integration tests of every crate but the laboratory's (root: they make namespaces)
	$(CARGO) build --workspace
	$(CARGO) test --workspace --exclude e2e --no-fail-fast

e2e: deps ## the laboratory's tests: whole clusters in namespaces (root)
	$(CARGO) build --workspace
	$(CARGO) test --package e2e --no-fail-fast -- --test-threads=1

k8s: deps ## Kubernetes, etcd, containerd and images for tests: built once, outside the clone
	e2e/k8s/build

e2e-k8s: k8s ## a real Kubernetes cluster (release build): all checks and the official suites; a failure leaves it up to look at (root)
	$(CARGO) build --release --workspace
	$(CARGO) plugin
	e2e/k8s/build e2e
	e2e/k8s/build policy
	PROFILE=release e2e/k8s/cluster up
	$(CARGO) test --package e2e --test k8s -- --long
	for suite in netpol signet cnp cyclonus; do e2e/k8s/cluster suite $$suite || exit 1; done
	e2e/k8s/cluster down
	MODE=pods PROFILE=release e2e/k8s/cluster up
	$(CARGO) test --package e2e --test k8s
	e2e/k8s/cluster down

test: check k8s unit e2e ## check, k8s, unit and e2e: what CI runs

test-long: deps ## what takes minutes: random worlds with packets, changes under a flood, changes with kills and switches of backend (root)
	ORACLE_WORLDS=400 $(CARGO) test --package felix-oracle --test packets
	CALICO_PROBE_COMMITS=4000 $(CARGO) test --package felix-dataplane --test window
	CALICO_WINDOW_ROUNDS=1000 $(CARGO) test --package calico-felix --test flows -- no_packet_is_lost

demo: build ## a three-machine cluster: up, quickstart, what calicoctl shows, down (root)
	$(CARGO) run --release --quiet --package e2e --bin lab -- demo

bench: build k8s ## figures: policy latency, memory, Felix at scale, calculation, both datastores, the CNI plugin; PEER=DIR for upstream's beside it (root)
	$(CARGO) run --release --quiet --package e2e --bin lab -- bench
	$(CARGO) bench --package calico-felix --bench felix
	$(CARGO) bench --package felix-calc --bench snapshot
	$(CARGO) bench --package libcalico-datastore --bench sync
	$(CARGO) bench --package libcalico-ipam --bench load
	$(CARGO) plugin
	OURS=target/x86_64-unknown-linux-gnu/plugin/calico $(CARGO) bench --package cni-plugin --bench plugin

fuzz: deps ## each fuzz target for FUZZ_SECS seconds (needs nightly and cargo-fuzz)
	fuzz/run $(FUZZ_SECS)

clean: ## remove what was built
	$(CARGO) clean
