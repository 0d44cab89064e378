# Foremesh. `make demo` and `make test` set up what they need; the rest is `foremesh --help`.
PYTHON3 ?= python3
BIN := .venv/bin
DATA ?= ../shared/data/intents

.PHONY: demo test setup setup-dev up down lint bench models conformance
.DEFAULT_GOAL := help

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## All of the set-up and nothing else
	@$(PYTHON3) deploy/local/setup.py

setup-dev:
	@$(PYTHON3) deploy/local/setup.py --dev --train

demo: setup ## Start the mesh, drive real traffic through it, print what happened, keep the page up until Ctrl-C
	@exec $(BIN)/foremesh demo $(ARGS)

up: setup ## Start the mesh; it stays up until `make down`
	@$(BIN)/foremesh up $(ARGS)

down: ## Stop the mesh
	@$(BIN)/foremesh down $(ARGS)

models: ## Train every entry of the catalog (hours); DATA=DIR holds the public sets
	@$(PYTHON3) deploy/local/setup.py --train --weights
	@$(BIN)/python -m models.make_catalog --data $(DATA) $(ARGS)

test: setup-dev ## Every test
	@deploy/local/test.sh $(ARGS)

lint: setup-dev ## ruff, mypy --strict, gofmt, go vet, staticcheck
	@deploy/local/lint.sh

bench: setup ## The mesh measured: one hop, the whole path, mTLS on and off, against no sidecars
	@$(BIN)/foremesh bench mesh $(ARGS)

conformance: setup ## Gateway API's official conformance suite against the gateway; writes edge/gateway/conformance/report.yaml
	@cd edge/gateway/conformance && "$$(cd ../../.. && $(BIN)/python -c 'from deploy.local.tools import find_go; print(find_go())')" \
		test -count=1 -timeout 30m . -args -report report.yaml -gateway-version "$$(git describe --always --dirty)"
