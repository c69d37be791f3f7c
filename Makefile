# One verb per need. bin/run and bin/test need no make; this is for developers. Every build mode has its own tree
# under build/, except the release build's shared objects, which lie beside the Python files.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
SETUP = . bin/_setup.sh; need_venv; need_compiler; need_packages test
TESTS ?= tests
ARGS ?=

.PHONY: release dev asan tsan test check bench micro fuzz run clean help

release: ## compile for use (the default)
	@$(SETUP); need_build release

dev: ## compile with assertions and live-object counters, and test that
	@$(SETUP); bin/_mode dev $(TESTS) $(ARGS)

asan: ## the same with address and undefined-behaviour sanitizers
	@$(SETUP); bin/_mode asan $(TESTS) $(ARGS)

tsan: ## the same with the thread sanitizer; only the tests that race threads
	@$(SETUP); bin/_mode tsan $(or $(filter-out tests,$(TESTS)),tests/unit tests/wire) $(ARGS)

test: ## everything bin/test does
	@bin/test $(ARGS)

check: ## ruff, mypy and the style tests
	@$(SETUP); .venv/bin/ruff check .; .venv/bin/mypy; .venv/bin/python -m pytest -q tests/style $(ARGS)

bench: ## against HAProxy, nginx and a plain Python router; results go to bench/results/
	@$(SETUP); need_packages test bench; \
	need_programs haproxy=haproxy nginx=nginx-light wrk=wrk h2load=nghttp2-client; need_build release
	.venv/bin/python -m bench.load $(ARGS)

micro: ## parsing, lookup and rewriting by themselves
	@$(SETUP); need_build release probe; .venv/bin/python -m pytest bench/micro $(ARGS)

fuzz: ## hypothesis with EXAMPLES (20000) a test, under sanitizers
	@$(SETUP); GOROUTER_FUZZ=$(or $(EXAMPLES),20000) bin/_mode asan -m "hypothesis and not release_only" $(TESTS) $(ARGS)

run: ## the whole system with a sample app
	@bin/run $(ARGS)

clean: ## what was built and what running left; the .venv stays
	rm -rf build run .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	rm -f gorouter_py/_fastpath.*.so tests/_probe.*.so

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/'
