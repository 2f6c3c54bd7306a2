# Targets are verbs a user says. Each may be run again: what is done is not done twice.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where the embedded cluster's nodes are; inventory/two-nodes.yml has a second one on this machine.
INVENTORY ?= inventory/local.yml
# Programs that were built; `make down` keeps it, `make distclean` does not.
CACHE ?= /var/cache/edgevirt
# What ansible-playbook shall be told besides, for example `ARGS=--check`.
ARGS ?=
# Sections of the benchmark; all when empty.
ONLY ?=

VENV := .venv
VENV_STAMP := $(VENV)/.requirements
PLAYBOOK := $(VENV)/bin/ansible-playbook --inventory $(INVENTORY)
# Of a control plane on another machine it is fetched (roles/kubernetes).
CLUSTER_KUBECONFIG := $(or $(wildcard $(abspath $(INVENTORY)).kubeconfig),/etc/edgevirt/admin.conf)

.PHONY: help
help: ## Print this
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- Python and Go tools -------------------------------------------------------

.PHONY: venv tools
venv: $(VENV_STAMP) ## Install Ansible and its tests into .venv

# Debian keeps the module that makes environments in a package of its own.
$(VENV_STAMP): requirements.txt
	python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends python3-venv; }
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.txt
	cp requirements.txt $@

tools: ## Build the cluster's programs that the cache lacks
	@third_party/build --cache $(CACHE)
	@third_party/build --cache $(CACHE) --only local-path-provisioner
	@third_party/build --cache $(CACHE) --only versitygw
	@third_party/build --cache $(CACHE) --only csi

# ---- the embedded cluster --------------------------------------------------------

.PHONY: cluster kubeconfig down clear distclean
cluster: $(VENV_STAMP) ## Bring up the embedded cluster
	$(PLAYBOOK) playbooks/cluster.yml $(ARGS)

kubeconfig: ## Print the path of the embedded cluster's kubeconfig
	@echo $(CLUSTER_KUBECONFIG)

down: $(VENV_STAMP) ## Remove the embedded cluster; packages and the build cache stay
	$(PLAYBOOK) playbooks/cluster-down.yml $(ARGS)

clear: down ## What an earlier run, even a crashed one, left on this machine
	@[ ! -e /run/edgevirt-nodes ] || cargo xtask edge-node stop
	@[ ! -e /run/edgevirt-systemd ] || tests/systemd-container stop /run/edgevirt-systemd

distclean: down ## Also remove the build cache, the Python environment and Cargo's output
	rm -rf $(CACHE) $(VENV) target

# ---- lints and tests of the roles --------------------------------------------------

.PHONY: lint-ansible molecule molecule-fresh
lint-ansible: $(VENV_STAMP) ## Lint playbooks and roles with the strictest profile
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" ansible-lint -q playbooks roles inventory tests/molecule

MOLECULE := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" MOLECULE_GLOB='tests/molecule/*/molecule.yml' molecule
molecule: $(VENV_STAMP) ## Test the roles on the running cluster: hurt and mended
	$(MOLECULE) test --scenario-name images
	$(MOLECULE) test --scenario-name kubevirt
	$(MOLECULE) test --scenario-name cdi
	$(MOLECULE) side-effect --scenario-name kubernetes
	$(MOLECULE) verify --scenario-name kubernetes

molecule-fresh: $(VENV_STAMP) ## Test the cluster role from nothing to nothing; takes a running cluster away
	$(MOLECULE) test --scenario-name kubernetes

# ---- the product: up, check, test, bench -------------------------------------------
#
# BUILD is one cargo call for all programs: calls that name fewer packages would
# choose other features for shared libraries and compile them again.
PROGRAMS := target/release
IMAGES := target/images
BUILD := cargo build --release --locked -p edgevirt -p virtctl -p edgevirt-bin

# What the programs say of their build: the last commit that changed their sources,
# and when it was made, so that other commits and other days make the same programs.
# Both cargo calls must be told the same, or each would build again what the other did.
SOURCES := crates Cargo.toml Cargo.lock
LAST_COMMIT = $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=$(1) -- $(SOURCES) 2>/dev/null)
BUILD_DATA = EDGEVIRT_COMMIT=$(call LAST_COMMIT,%H) EDGEVIRT_BUILD_DATE=$(call LAST_COMMIT,%cd) \
  EDGEVIRT_TREE_STATE=$(shell git rev-parse -q --git-dir >/dev/null 2>&1 && { [ -z "$$(git status --porcelain -- $(SOURCES))" ] && echo clean || echo dirty; })

# A kubeconfig that the user names is a cluster of the user's: none is brought up.
ifneq ($(origin KUBECONFIG),undefined)
ifneq ($(KUBECONFIG),$(CLUSTER_KUBECONFIG))
EXISTING := $(firstword $(subst :, ,$(KUBECONFIG)))
endif
endif
KUBECONFIG ?= $(CLUSTER_KUBECONFIG)
export KUBECONFIG
CLUSTER := --inventory $(INVENTORY) $(if $(EXISTING),--kubeconfig $(EXISTING))

# libssh2 links the system's OpenSSL; the tests of the SSH client start a server.
.PHONY: native
native:
	@pkg-config --exists openssl 2>/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends libssl-dev pkg-config; }

.PHONY: sshd
sshd:
	@[ -x /usr/sbin/sshd ] || { apt-get update -q && apt-get install -qy --no-install-recommends openssh-server openssh-client; }

# What a Debian for the tests of persistent machines is made with.
.PHONY: debootstrap
debootstrap:
	@[ -x /usr/bin/mmdebstrap ] || { apt-get update -q && apt-get install -qy --no-install-recommends mmdebstrap; }

.PHONY: up build images preflight check test test-nodes bench deny
up: preflight images venv ## Bring up everything and boot a virtual machine to its login prompt
ifndef EXISTING
	@$(MAKE) cluster
endif
	$(PROGRAMS)/edgevirt deploy $(CLUSTER) --images $(IMAGES)
	$(PROGRAMS)/edgevirt demo $(CLUSTER)

build: native ## Build the programs
	$(BUILD_DATA) $(BUILD)
	$(BUILD_DATA) cargo xtask probe --out $(PROGRAMS)

images: build ## Make the container images and the demo guest
	$(BUILD_DATA) cargo xtask images --out $(IMAGES)

# 4 means that something works with a limitation, which the table explains.
preflight: build ## Check this machine; changes nothing
	@$(PROGRAMS)/edgevirt preflight || [ $$? -eq 4 ]

check: venv native sshd ## Format, lints, pure tests, layering: no cluster needed
	cargo fmt --all --check
	cargo xtask check
	cargo xtask gen --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo test --workspace --locked
	$(VENV)/bin/python -m unittest discover -s tests/ansible
	@$(MAKE) lint-ansible deny

# Licences, bans and sources; the advisory database is not in a package registry.
DENY := $(CACHE)/tools/bin/cargo-deny
deny: $(DENY)
	$(DENY) --log-level error check bans licenses sources

# Optimized it would take longer to build than it ever works.
$(DENY):
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
	cargo install --quiet --locked --version 0.20.2 --root $(CACHE)/tools cargo-deny

test: debootstrap check test-nodes ## Everything in check, then the tests on booted nodes and on a real cluster
	tests/run

# An emulated node is a busy processor while it boots: as many at once as there are processors, and one more.
test-nodes: build $(VENV_STAMP) ## Boot every variant of testbed/edge-node and compare preflight's verdicts
	EDGEVIRT_CACHE=$(CACHE) cargo xtask edge-node build
	EDGEVIRT_CACHE=$(CACHE) EDGEVIRT_PROBE=$(CURDIR)/$(PROGRAMS)/edgevirt-probe \
		tests/again nodes --test-threads=$$(($$(nproc) + 1))
	tests/on-node

.PHONY: test-systemd
test-systemd: debootstrap images $(VENV_STAMP) ## The cluster on a Debian with systemd: up, rebooted, down; MACHINE=emulated has cgroup v2 too, and takes long
	EDGEVIRT_CACHE=$(CACHE) MACHINE=$(or $(MACHINE),container) tests/on-systemd

# Every crates/*/fuzz; the compiler's sanitizers are only in nightly ones.
FUZZ := $(CACHE)/tools/bin/cargo-fuzz
SECONDS_EACH ?= 60
.PHONY: fuzz
fuzz: $(FUZZ) ## Give the parsers random input, SECONDS_EACH=60 for each target
	@for dir in crates/*/fuzz; do for file in $$dir/fuzz_targets/*.rs; do \
	  target=$$(basename $$file .rs); mkdir -p $$dir/corpus/$$target $$dir/seeds/$$target; \
	  echo "$$dir: $$target"; \
	  ( cd $$dir/.. && PATH=$(CACHE)/tools/bin:$$PATH cargo +nightly fuzz run --target-dir $(CURDIR)/target/fuzz $$target \
	    fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(SECONDS_EACH) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 ); \
	done; done

$(FUZZ):
	cargo install --quiet --locked --root $(CACHE)/tools cargo-fuzz

# What the product is measured beside.
.PHONY: rivals
rivals:
	@[ -x /usr/bin/qemu-img ] && [ -x /usr/bin/curl ] || { apt-get update -q && apt-get install -qy --no-install-recommends qemu-utils curl; }

bench: rivals build ## Measure memory, start times, requests and sizes beside their limits; ONLY="single twenty" measures these
	cargo run --release --locked -p bench -- target/bench.json $(ONLY)
