# Sallyport. `make help` lists the targets. Each works on a fresh clone with
# Go, make and Python 3, without another command before it.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOLS   := $(CURDIR)/.tools
FUZZTIME ?= 10s

# Versions of tools stand in their modules under integration/tools; these are
# the stamps that say which version was built.
tool_stamp = $(TOOLS)/$(1).built
ENVOY_VERSION := 1.40.0
ENVOY_BIN     := $(TOOLS)/envoy-$(ENVOY_VERSION)/envoy
# Older releases that Sallyport works with too, see `make envoys`.
ENVOY_OTHERS  := 1.39.3 1.38.3 1.37.0 1.36.4

# An Envoy of one's own (ENVOY=/path/to/envoy) needs no download. Tests run in
# other folders, so its path is made absolute.
ifdef ENVOY
override ENVOY := $(abspath $(ENVOY))
export ENVOY
envoy :=
else
envoy := $(ENVOY_BIN)
endif

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/sallyport and bin/demo
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/sallyport ./cmd/demo

.PHONY: test
test: $(envoy) $(call tool_stamp,dex) ## Run every test with the race detector, a real Envoy and dex; nothing is skipped
	SALLYPORT_REQUIRE_TOOLS=1 bash integration/tools/gotest.sh ./...

.PHONY: integration
integration: $(envoy) $(call tool_stamp,dex) ## Run the black-box tests only
	SALLYPORT_REQUIRE_TOOLS=1 bash integration/tools/gotest.sh ./integration/...

.PHONY: envoys
envoys: $(call tool_stamp,dex) ## Run the black-box tests with older Envoys as well, and say which pass
	@bash integration/tools/envoy/fetch.sh $(ENVOY_VERSION) $(ENVOY_OTHERS)
	@said=; bad=0; for v in $(ENVOY_VERSION) $(ENVOY_OTHERS); do echo "== Envoy $$v"; \
	if ENVOY=$(TOOLS)/envoy-$$v/envoy SALLYPORT_REQUIRE_TOOLS=1 bash integration/tools/gotest.sh ./integration; \
	then said="$$said\n  $$v passes"; else said="$$said\n  $$v FAILS"; bad=1; fi; done; \
	printf "\nblack-box tests by version of Envoy:$$said\n"; exit $$bad

.PHONY: jaeger
jaeger: $(envoy) $(call tool_stamp,jaeger) ## Find decisions in a real Jaeger, which takes minutes to build once
	SALLYPORT_REQUIRE_TOOLS=1 bash integration/tools/gotest.sh -tags jaeger -run '^TestJaeger' ./integration

# promtool has its say on the rules, and on what the compose file gives to
# Prometheus; the compose file is read by the library that Docker reads it with.
.PHONY: monitoring
monitoring: $(envoy) $(call tool_stamp,promtool) $(call tool_stamp,compose) ## Check alert rules, dashboard and compose file with the tools that read them
	$(TOOLS)/promtool check rules envoy/prometheus/rules.yaml
	$(TOOLS)/promtool test rules envoy/prometheus/rules_test.yaml
	python3 integration/tools/dashboard.py envoy/grafana/sallyport.json | $(TOOLS)/promtool check rules
	$(TOOLS)/promtool check config envoy/compose/prometheus.yaml
	$(TOOLS)/compose envoy/compose/compose.yaml >/dev/null
	$(or $(ENVOY),$(ENVOY_BIN)) --mode validate --log-level error -c envoy/compose/envoy.yaml

.PHONY: lint
lint: $(call tool_stamp,golangci-lint) $(call tool_stamp,buf) ## Vet, lint, and check modules and schemas
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these" >&2; exit 1; }
	go mod tidy -diff
	go mod verify
	go vet -tags jaeger ./...
	$(TOOLS)/golangci-lint run --build-tags jaeger ./...
	$(TOOLS)/buf lint
	@base=$$(git describe --tags --abbrev=0 2>/dev/null || echo HEAD~1); \
	if git rev-parse -q --verify "$$base:proto" >/dev/null; then echo "buf breaking against $$base"; \
	$(TOOLS)/buf breaking --against ".git#ref=$$base"; fi

.PHONY: generate
generate: $(call tool_stamp,buf) $(call tool_stamp,protoc-gen-go) ## Make generated code again
	$(TOOLS)/buf generate --template proto/buf.gen.yaml
	go generate ./...

# Compares the tree with itself, not with the last commit, so that it holds on
# work in progress too and finds generated files that nobody added. The index
# is one of its own: what is staged stays as it is.
.PHONY: generated
generated: $(call tool_stamp,buf) $(call tool_stamp,protoc-gen-go) ## Fail if generated code is not what make generate makes
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	tree() { GIT_INDEX_FILE=$$dir/index git add --all && GIT_INDEX_FILE=$$dir/index git write-tree; }; \
	before=$$(tree); $(MAKE) --no-print-directory generate; after=$$(tree); \
	git diff --stat --exit-code "$$before" "$$after" || { echo "generated files differ: commit what make generate made" >&2; exit 1; }

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME (10s)
	bash integration/tools/fuzz.sh $(FUZZTIME)

MUTATE := authz/token authz/token/jws authz/token/keys authz/token/revocation

.PHONY: mutate
mutate: ## Delete one check of the token packages at a time; a test must notice
	@bad=0; for p in $(MUTATE); do python3 integration/tools/mutate.py $$p ./$$p || bad=1; done; exit $$bad

.PHONY: bench
bench: ## Run the benchmarks; they report ratios of one run
	go test -run '^$$' -bench . -benchmem ./authz/... ./policy/... ./integration

.PHONY: demo
demo: build $(envoy) ## One minute to a decision: issuer, upstream, Sallyport and Envoy on 127.0.0.1
	@bin/demo $(if $(PORT),--port $(PORT)) $(if $(JAEGER),--jaeger $(JAEGER))

.PHONY: check
check: lint generated test ## What CI runs, but for fuzzing and what is slow to build, and what to run before each commit

.PHONY: clean
clean: ## Remove what was built; tools too
	rm -rf bin coverage .tools

$(ENVOY_BIN):
	@bash integration/tools/envoy/fetch.sh $(ENVOY_VERSION)

# Without the discovery of every cloud there is, which is most of promtool.
BUILD_promtool := -tags remove_all_sd

# A tool is built again when its module changes.
$(TOOLS)/%.built: integration/tools/%/go.mod integration/tools/%/go.sum
	@mkdir -p $(TOOLS)
	@echo "building $*"
	cd integration/tools/$* && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' $(BUILD_$*) -o $(TOOLS)/$* $$(sed -n 's/^tool //p' go.mod)
	@touch $@
