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

VENV := .venv
VENV_STAMP := $(VENV)/.requirements
PLAYBOOK := $(VENV)/bin/ansible-playbook --inventory $(INVENTORY)
CLUSTER_KUBECONFIG := /etc/edgevirt/admin.conf

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

# ---- the embedded cluster --------------------------------------------------------

.PHONY: cluster kubeconfig down clear distclean
cluster: $(VENV_STAMP) ## Bring up the embedded cluster
	$(PLAYBOOK) playbooks/cluster.yml $(ARGS)

kubeconfig: ## Print the path of the embedded cluster's kubeconfig
	@echo $(CLUSTER_KUBECONFIG)

down: $(VENV_STAMP) ## Remove the embedded cluster; packages and the build cache stay
	$(PLAYBOOK) playbooks/cluster-down.yml $(ARGS)

clear: down ## What an earlier run, even a crashed one, left on this machine

distclean: down ## Also remove the build cache, the Python environment and Cargo's output
	rm -rf $(CACHE) $(VENV) target

# ---- lints and tests of the roles --------------------------------------------------

.PHONY: lint-ansible molecule
lint-ansible: $(VENV_STAMP) ## Lint playbooks and roles with the strictest profile
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" ansible-lint -q playbooks roles inventory tests/molecule

molecule: $(VENV_STAMP) ## Test the cluster role on this machine; takes a running cluster away
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" MOLECULE_GLOB='tests/molecule/*/molecule.yml' molecule test --scenario-name kubernetes

# ---- the product: up, check, test, bench -------------------------------------------
