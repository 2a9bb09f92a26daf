# cvold: what can be done with the tree. `make` lists it.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -X github.com/cvold/cvold/internal/version.version=$(VERSION) \
           -X github.com/cvold/cvold/internal/version.commit=$(COMMIT)

TEST_TIMEOUT     ?= 10m
CAMPAIGN_TIMEOUT ?= 120m
FUZZTIME         ?= 30s
BENCH            ?= .
RUN              ?= .
PKG              ?= ./...

prefix     ?= /usr/local
bindir     ?= $(prefix)/bin
libdir     ?= $(prefix)/lib
mandir     ?= $(prefix)/share/man
DESTDIR    ?=

STATICCHECK := go tool -modfile=tools/go.mod staticcheck
# The race detector needs cgo, and that a compiler.
RACE = $$(if command -v gcc >/dev/null; then echo -race; else echo 'no gcc: tests run without -race' >&2; fi)

.PHONY: help build setup test lint check fuzz bench bench-nbd bench-copy cover campaign test-clients test-vm demo clean install

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: ## build bin/cvold and bin/cvol, static
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/cvold ./cmd/cvol

setup: ## install the programs that tests talk to (Debian, as root; elsewhere say what is missing)
	@tools/setup

test: setup ## run all tests with the race detector
	go test $(RACE) -timeout $(TEST_TIMEOUT) $(PKG)

lint: ## gofmt, vet, staticcheck, and the state of go.mod and go.sum
	@unformatted=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs gofmt -l) && \
		{ test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }; }
	go vet ./...
	$(STATICCHECK) ./...
	go mod tidy -diff
	go mod verify

check: lint test ## lint and test: what a commit must pass

fuzz: ## run each fuzz target for FUZZTIME (default 30s)
	tools/fuzz $(FUZZTIME)

bench: ## run the benchmarks: BENCH=regexp PKG=./transfer
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

bench-nbd: build setup ## measure NBD beside nbdkit, qemu-nbd and nbdcopy: a table (some minutes; ARGS='-case REGEXP -n 9')
	go run ./test/benchnbd $(ARGS)

bench-copy: build setup ## measure cvol copy beside dd, qemu-img, nbdcopy and rsync: a table (some minutes; ARGS='-case REGEXP -n 9 -disk-dir DIR')
	go run ./test/benchcopy $(ARGS)

cover: setup ## write coverage.out and print the total
	go test -timeout $(TEST_TIMEOUT) -coverprofile=coverage.out -coverpkg=./... $(PKG)
	@go tool cover -func=coverage.out | tail -n 1

campaign: setup ## walk every crash and fault instead of a random slice of them (long)
	CVOLD_CAMPAIGN=full go test -v -count=1 -run Campaign -timeout $(CAMPAIGN_TIMEOUT) $(PKG)

test-clients: setup ## run the tests with the stock clients of OpenStack (cinder, openstack, gophercloud)
	CVOLD_CLIENTS=1 go test -count=1 -run Client -timeout $(TEST_TIMEOUT) ./test/e2e

test-vm: setup ## run the tests that need a kernel of their own (RUN=regexp), in a VM that is made first (Debian, as root)
	@tools/setup vm
	test/vm/all bin/guest '$(RUN)'

demo: build ## two agents on this machine, one migration between them
	tools/demo/run.sh

clean: ## remove what the other targets made
	rm -rf bin coverage.out

install: build ## install under DESTDIR and prefix (default /usr/local)
	install -D -t '$(DESTDIR)$(bindir)' bin/cvold bin/cvol
	install -d '$(DESTDIR)$(libdir)/systemd/system'
	sed 's|/usr/bin/|$(bindir)/|' systemd/cvold.service > '$(DESTDIR)$(libdir)/systemd/system/cvold.service'
	install -D -m 644 -t '$(DESTDIR)$(libdir)/udev/rules.d' systemd/61-cvold.rules
	install -D -m 644 systemd/cvold.sysusers '$(DESTDIR)$(libdir)/sysusers.d/cvold.conf'
	install -d '$(DESTDIR)$(mandir)/man1'
	bin/cvol man '$(DESTDIR)$(mandir)/man1'
	@for page in $(wildcard docs/man/*.[1-9]); do \
		install -v -D -m 644 -t "$(DESTDIR)$(mandir)/man$${page##*.}" "$$page"; done
