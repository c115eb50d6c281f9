# The commands of this repository; `make` alone lists them.

CARGO ?= cargo
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)
# Namespaces and TAPs need root; whoever is root needs no sudo.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.PHONY: help demo test deep bench deps clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build the switch and show pods of this machine talking through it (needs root)
	$(CARGO) build --release $(if $(CI),--locked) -p podswitch -p podswitch-bench
	$(SUDO) $(TARGET_DIR)/release/podswitch-bench demo

test: deps ## format, lints, all tests, loom models and documentation (needs root)
	@scripts/test

deep: deps ## what takes long or a nightly toolchain: miri, ThreadSanitizer, many more random cases, long runs
	@scripts/deep

bench: ## measure the switch beside the kernel on this machine, some minutes (needs root)
	$(CARGO) build --release $(if $(CI),--locked) -p podswitch -p podswitch-bench
	$(SUDO) $(TARGET_DIR)/release/podswitch-bench local

deps: ## name the Debian packages that the tests need and install the missing ones (asks first)
	@scripts/deps

clean: ## remove everything that was built
	$(CARGO) clean
