# make help lists the targets.
SHELL := /bin/bash
GO ?= go
# What -race covers: the rooms with goroutines of their own. e2e runs the built binary.
ROOMS := $(shell $(GO) list ./... 2>/dev/null | grep -v -e /e2e -e /bench)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 18

.PHONY: build
build: ## build bin/hark
	$(GO) build -trimpath -o bin/hark ./cmd/hark

.PHONY: test
test: check setup test-providers test-js ## everything that must pass: checks, unit tests under -race, end-to-end tests
	$(GO) test -race -timeout 8m $(ROOMS)
	$(GO) test -timeout 8m ./e2e/... ./bench/...

.PHONY: test-providers
test-providers: setup ## the verification schemes against the providers' own libraries
	cd e2e/providers/go && $(GO) vet ./... && $(GO) test -timeout 3m ./...

.PHONY: test-js
test-js: setup ## the JavaScript client: hark.js is what its source makes, types, unit tests
	cd clients/js && npm run --silent check && npm test --silent

.PHONY: check
check: ## formatting and vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...

.PHONY: setup
setup: ## install what the end-to-end tests need and is missing (Debian and npm packages)
	./e2e/setup.sh

.PHONY: pictures
pictures: setup ## make the pictures in docs/pictures anew, and look at them
	@fc-list | grep -q Inter && fc-list | grep -q 'JetBrains Mono' || apt-get install -y --no-install-recommends fonts-inter fonts-jetbrains-mono
	$(GO) run ./e2e/pictures

.PHONY: bench
bench: bench-eventlog bench-webhooks bench-ingest ## all benchmarks, each against its bound in the same run

.PHONY: bench-eventlog
bench-eventlog: ## appending to the log against a bare group committer
	$(GO) run ./bench/eventlog

.PHONY: bench-webhooks
bench-webhooks: ## publish and deliver against bare programs
	$(GO) run ./bench/webhooks

.PHONY: bench-ingest
bench-ingest: ## signed webhooks in, against a bare server that only verifies
	$(GO) run ./bench/ingest

.PHONY: bench-live
bench-live: ## live streams: size, fan-out, resume, reconnects, each against its bound
	$(GO) run ./bench/live

.PHONY: bench-push
bench-push: ## Web Push: what a message costs against webpush-go, and how many go out against a bare client
	$(GO) run ./bench/push
	$(GO) run ./bench/pushservice

.PHONY: bench-isolation
bench-isolation: ## what bad destinations and tenants do to good ones
	$(GO) run ./bench/isolation

ROUNDS ?= 500
RUNS ?= 100000
SOAK ?= 30m
.PHONY: soak
soak: ## long runs: ROUNDS of kill -9, RUNS of the simulation, SOAK of each model check and of power cuts
	HARK_SOAK_ROUNDS=$(ROUNDS) $(GO) test -count=1 -timeout 24h -run Crash ./e2e
	HARK_SOAK=$(SOAK) $(GO) test -count=1 -timeout 24h -run LiveModel ./e2e
	$(GO) test -count=1 -timeout 24h -run Simulation ./internal/deliver -deliver.runs=$(RUNS)
	$(GO) test -count=1 -timeout 24h ./internal/eventlog -eventlog.soak=$(SOAK)
	$(GO) test -count=1 -timeout 24h ./internal/store -store.soak=$(SOAK)

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; done; done
