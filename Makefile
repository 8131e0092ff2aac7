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

.PHONY: lint
lint: $(call tool_stamp,golangci-lint) $(call tool_stamp,buf) ## Vet, lint, and check modules and schemas
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these" >&2; exit 1; }
	go mod tidy -diff
	go mod verify
	go vet ./...
	$(TOOLS)/golangci-lint run ./...
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

.PHONY: bench
bench: ## Run the benchmarks; they report ratios of one run
	go test -run '^$$' -bench . -benchmem ./authz/... ./policy/...

.PHONY: demo
demo: build $(envoy) ## One minute to a decision: issuer, upstream, Sallyport and Envoy on 127.0.0.1
	@bin/demo $(if $(PORT),--port $(PORT))

.PHONY: check
check: lint generated test ## What CI runs, but for fuzzing, and what to run before each commit

.PHONY: clean
clean: ## Remove what was built; tools too
	rm -rf bin coverage .tools

$(ENVOY_BIN):
	@bash integration/tools/envoy/fetch.sh

# A tool is built again when its module changes.
$(TOOLS)/%.built: integration/tools/%/go.mod integration/tools/%/go.sum
	@mkdir -p $(TOOLS)
	@echo "building $*"
	cd integration/tools/$* && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o $(TOOLS)/$* $$(sed -n 's/^tool //p' go.mod)
	@touch $@
