# mica: `make demo` and `make test` do all the set-up they need; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE_SOURCES := $(shell find native proto -name '*.[chS]' -o -name '*.mk' -o -name '*.map' -o -name '*.def' -o -name Makefile)
BINDING := libs/mica/packing/_kernel.abi3.so
SHIM := libs/mica/native/lib/shim/libcuda.so.1

.DEFAULT_GOAL := help
.PHONY: lives sources pyopencl-test aarch64-test fuzz kills model sanitize help setup native demo test bench check format proto proofs baseline-test compose-test clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) native ## make .venv, the native libraries and the mica command

$(STAMP): pyproject.toml constraints.txt scripts/check_host.sh
	@scripts/check_host.sh "$(PYTHON)"
	@echo "mica: installing what mica and its tests need into $(VENV) (once, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,clients,opencl,plots]'
	@touch $@

native: $(STAMP) $(SHIM) $(BINDING) ## compile the shims, the simulated drivers and the region binding

$(SHIM): $(NATIVE_SOURCES)
	@scripts/check_host.sh "$(PYTHON)"
	@echo "mica: compiling the shims and the simulated drivers"
	@$(MAKE) -s -C native all
	@touch $@

$(BINDING): $(NATIVE_SOURCES) | $(STAMP)
	$(BIN)/python native/build_cffi.py
	@touch $@

demo: setup ## one real job through the whole system, on a simulated node
	$(BIN)/python scripts/demo.py

sources: $(STAMP) ## the tests and examples of PyOpenCL, which run in a slice
	@scripts/fetch_pyopencl.sh $(BIN)/python build/sources

test: export PYTHONDONTWRITEBYTECODE = # set by some: each of some thousand processes would compile all of mica anew
test: setup check sources ## every test: native, unit, property, integration, acceptance
	$(MAKE) -s -j2 -C native test
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

proofs: baseline-test sanitize model kills fuzz aarch64-test pyopencl-test ## what takes longer than a test may: old C libraries, sanitizers, models

model: ## the shared-memory protocols, checked exhaustively, and their broken variants
	native/model/check.sh

lives: setup ## every ready-made node through 10,000 random steps, audited after each hundred: three quarters of an hour
	MICA_LIFE_STEPS=10000 $(BIN)/python -m pytest tests/property/nodes

fuzz: ## what reads bytes that others have written, for 5 s each; native/fuzz/check.sh SECONDS for longer
	native/fuzz/check.sh 5

kills: native ## thousands of programs of a slice, killed at random moments
	$(MAKE) -s -C native chaos CHAOS_KILLS=4000

aarch64-test: ## the C tests, cross-built for aarch64 by Debian's compiler, under qemu-user
	scripts/need.sh aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu /usr/aarch64-linux-gnu/include/stdio.h=libc6-dev-arm64-cross qemu-aarch64=qemu-user
	$(MAKE) -s -j2 -C native test TARGET=aarch64-linux-gnu

pyopencl-test: setup sources ## more of PyOpenCL's own tests, in a slice and outside
	MICA_LONG_TESTS=1 $(BIN)/python -m pytest -q tests/integration/opencl/test_pyopencl_itself.py

sanitize: ## every C test under the address, undefined and thread sanitizers
	$(MAKE) -s -C native test SANITIZE=address,undefined
	$(MAKE) -s -C native test SANITIZE=thread

baseline-test: ## the delivered shim under an old glibc and under musl (root: chroot)
	scripts/baseline_test.sh

bench: setup ## request-to-ready latency and sustained rate, on this machine
	$(BIN)/mica bench pipeline

check: setup ## lint, types, imports, sizes, the shim's reading order, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/python scripts/check_reading_order.py
	$(BIN)/python scripts/gen_proto.py --check
	$(BIN)/python scripts/gen_amdsmi.py --check

format: setup ## format the Python code
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

proto: setup ## generate proto/ from mica.events
	$(BIN)/python scripts/gen_proto.py

compose-test: setup ## docker compose up, proven on a real engine
	$(BIN)/python scripts/compose_test.py

clean: ## remove what was built, but not .venv
	rm -rf build dist libs/mica/native/lib libs/mica/*/_*.abi3.so
