# The commands of this repository; `make` alone lists them.

CARGO ?= cargo
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)
PREFIX ?= /usr/local
BINARIES := podswitch podswitch-cni podswitch-agent
UNITS := podswitch.service podswitch-agent.service
# Namespaces and TAPs need root; whoever is root needs no sudo.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.PHONY: help demo test deep bench deps share install uninstall clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

share: ## write manual pages and completions into share/ again, after a change of the command line
	$(CARGO) build $(if $(CI),--locked) $(BINARIES:%=-p %)
	@scripts/share share $(BINARIES:%=$(TARGET_DIR)/debug/%)

install: ## install what `cargo build --release` built, below DESTDIR and PREFIX (/usr/local)
	install -D -t $(DESTDIR)$(PREFIX)/sbin $(BINARIES:%=$(TARGET_DIR)/release/%)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 share/man/man1/*.1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	for name in $(BINARIES); do \
	    install -m 644 share/completions/$$name.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$name || exit; done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(BINARIES:%=share/completions/_%)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(BINARIES:%=share/completions/%.fish)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/podswitch share/podswitch.toml
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in $(UNITS); do \
	    sed 's,/usr/local,$(PREFIX),' share/systemd/$$unit >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit; done

uninstall: ## remove what `make install` installed
	rm -f $(BINARIES:%=$(DESTDIR)$(PREFIX)/sbin/%) $(patsubst share/%,$(DESTDIR)$(PREFIX)/share/%,$(wildcard share/man/man1/*.1))
	rm -f $(BINARIES:%=$(DESTDIR)$(PREFIX)/share/bash-completion/completions/%)
	rm -f $(BINARIES:%=$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_%)
	rm -f $(BINARIES:%=$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/%.fish)
	rm -f $(DESTDIR)$(PREFIX)/share/podswitch/podswitch.toml
	rm -f $(UNITS:%=$(DESTDIR)$(PREFIX)/lib/systemd/system/%)

clean: ## remove everything that was built
	$(CARGO) clean
