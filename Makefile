# Every target does the set-up that it needs. Python 3.11+ and make are all that must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

WIRE_SOURCES := $(wildcard server/wire/src/* server/wire/mlpserve_wire/*.py*) \
  $(addprefix server/wire/,CMakeLists.txt install.py pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cuda test-grpcio test-all lint audit format wire fuzz-wire sanitize-wire proto descriptors contract bench bench-serving bench-peers bench-workers bench-clients bench-memory bench-loop bench-profile bench-mixed bench-abuse bench-pages bench-training bench-beside bench-recipes bench-accuracy bench-scoring bench-install capacity docs screenshots images wheels sbom gpu-check gpu-kit clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/.installed $(VENV)/.wire  ## make .venv with everything in it

demo: setup  ## train on MNIST, publish, serve, predict and score, from nothing
	@$(BIN)/python demo/run.py

test: setup .venv-proto/.installed .venv-triton/.installed  ## the fast tests
	@$(BIN)/python -m pytest

GRPCIO_TESTS ?= tests/e2e tests/client tests/deploy tests/playground tests/examples
test-grpcio: setup  ## the tests that take the transport which is installed, over grpcio; `make test` has them over the wire
	@MLPSERVE_TEST_TRANSPORT=grpcio $(BIN)/python -m pytest $(GRPCIO_TESTS)

test-cuda: setup .venv-cuda/.wire  ## the real onnxruntime-gpu on an emulated GPU, on Linux x86-64 with a C++ compiler
	@$(BIN)/python -m pytest -m cuda tests/cuda

CUDA_ENVIRONMENT := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),.venv-cuda/.wire)
test-all: setup .venv-proto/.installed .venv-triton/.installed .venv-foreign/.installed .venv-perf/.installed $(CUDA_ENVIRONMENT)  ## every test; those that lack something (a Docker engine) say so
	@$(BIN)/python -m pytest -m ""

lint: setup  ## ruff, mypy, pyright on the examples, import-linter, Kubernetes' schemas, what callers build on; C++ where clang's tools are
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
	@$(BIN)/mypy && $(BIN)/mypy examples
	@if timeout 120 $(BIN)/pyright --version >/dev/null 2>&1; then $(BIN)/pyright --pythonpath $(BIN)/python examples; \
	else echo "pyright left out: it comes through npm, which does not answer here"; fi
	@$(BIN)/lint-imports
	@$(BIN)/python .ci/kubernetes.py
	@$(BIN)/python .ci/compatibility
	@if command -v clang-format >/dev/null; then clang-format --dry-run --Werror $(wildcard server/wire/src/* server/wire/fuzz/*.cc); fi
	@if command -v clang-tidy >/dev/null; then $(MAKE) --no-print-directory build/wire/.tidy; fi

# Minutes where everything is new, so only what changed is looked at. The build has said how each file is compiled.
build/wire/.tidy: $(WIRE_SOURCES) server/wire/.clang-tidy
	@mkdir -p $(@D) && $(BIN)/python .ci/tidy.py $@

audit: setup .venv-audit/.installed  ## known vulnerabilities of what is installed
	@$(BIN)/python .ci/audit.py $(VENV)/lib/python3*/site-packages .venv-audit/bin/pip-audit

format: setup  ## the only target that rewrites code
	@if command -v clang-format >/dev/null; then clang-format -i $(wildcard server/wire/src/* server/wire/fuzz/*.cc); fi
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

wire: $(VENV)/.installed  ## the compiled transport again, as `make setup` builds it without root; says what is missing
	@$(BIN)/python server/wire/install.py

# Where it cannot be built, this says what is missing and goes on: the server runs over grpcio then.
%/.wire: %/.installed $(WIRE_SOURCES)
	@echo "Building the fast transport, mlpserve-wire, for $* (a minute or two; once) ..."
	@$*/bin/python server/wire/install.py
	@touch $@

WIRE_FUZZ_SECONDS ?= 3600
fuzz-wire:  ## libFuzzer on the bytes of a connection for WIRE_FUZZ_SECONDS; needs clang and the headers of `make wire`
	@CC=clang CXX=clang++ cmake -S server/wire -B build/wire-fuzz -DCMAKE_BUILD_TYPE=RelWithDebInfo -DWIRE_FUZZ=ON -DWIRE_SANITIZE=address,undefined
	@cmake --build build/wire-fuzz --parallel
	@$(PYTHON) server/wire/fuzz/seeds.py build/wire-fuzz/corpus
	@build/wire-fuzz/fuzz_connection -max_total_time=$(WIRE_FUZZ_SECONDS) -max_len=8192 -print_final_stats=1 build/wire-fuzz/corpus

SANITIZE ?= address,undefined
sanitize-wire: setup  ## the transport's tests and a soak of a million requests with SANITIZE=address,undefined, or thread
	@$(BIN)/python server/wire/sanitized.py $(SANITIZE)

proto: .venv-proto/.installed  ## generate the stubs beside the .proto files
	@.venv-proto/bin/python proto/generate.py

descriptors: setup  ## the contract as Envoy reads it, deploy/envoy/mlpserve.binpb
	@$(BIN)/python deploy/envoy/descriptors.py

RELEASED ?=
contract: setup  ## accept what callers build on as it is now, in contract/; RELEASED=0.2.0 after a tag: make it that release's promise
	@$(BIN)/python .ci/compatibility $(if $(RELEASED),release $(RELEASED),accept)

bench: bench-serving bench-workers bench-clients  ## what serving is measured by (ten minutes)

bench-serving: setup  ## our server, the one before, tutorial servers and the limits, one core each (ten minutes; BENCH=--quick: four)
	@$(BIN)/python -m bench.serving $(BENCH)

bench-peers: setup  ## the same with peers, each in an environment of its own (a quarter of an hour; BENCH=--quick: seven minutes)
	@$(BIN)/python -m bench.serving --peers $(BENCH)

bench-workers: setup  ## two workers on two cores against one
	@$(BIN)/python -m bench.workers

bench-clients: setup  ## a Python process with many single images, with and without coalescing
	@$(BIN)/python -m bench.clients

bench-memory: setup  ## resident memory over a million requests
	@$(BIN)/python -m bench.memory

bench-loop: setup  ## the batching loop alone, without a transport
	@$(BIN)/python -m bench.loop

bench-profile: setup  ## where the server's core spends its time, by perf
	@$(BIN)/python -m bench.profiling

bench-mixed: setup  ## interactive calls beside scoring jobs on the same server and on another (half an hour; BENCH=--short: six)
	@$(BIN)/python -m bench.mixed $(BENCH)

bench-pages: setup  ## put the tables of the last bench-peers, bench-profile, bench-clients and bench-mixed into the documentation
	@$(BIN)/python -m bench.tables.pages

ABUSE_SECONDS ?= 15
bench-abuse: setup  ## hostile callers, each for ABUSE_SECONDS=15: the server's memory and what others see (half an hour); writes docs/guarantees.md
	@MLPSERVE_ABUSE_SECONDS=$(ABUSE_SECONDS) $(BIN)/python -m pytest -q -m guarantee tests/guarantees/test_abuse.py
	@$(BIN)/python -m tests.support.abuse_table

bench-training: setup  ## the textbook training loop against ours (ten minutes or more)
	@$(BIN)/python -m bench.trainer.training

bench-beside: setup  ## training beside one busy core against a quiet machine (three minutes)
	@$(BIN)/python -m bench.trainer.beside

bench-scoring: setup  ## two million images through a server and without one
	@$(BIN)/python -m bench.jobs.scoring

bench-recipes: setup  ## an epoch of each recipe against the DataLoader way of doing the same (five minutes)
	@$(BIN)/python -m bench.trainer.recipes

bench-accuracy: setup  ## what the recipes reach over seeds (hours): RUNS="fast:0-4 accurate:0-4 best:0-4"
	@$(BIN)/python -m bench.trainer.accuracy $(RUNS)

bench-install: setup  ## megabytes of each extra in an empty environment, and how soon --help answers
	@$(BIN)/python -m bench.install

RATE ?= 1000000
capacity: setup  ## what RATE=1000000 requests a second take, computed from the serving benchmark and simulated
	@$(BIN)/python -m bench.tables.capacity --rate $(RATE) $(CAPACITY)

docs: setup  ## the documentation as pages, in build/site; every link must lead somewhere
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@$(BIN)/python .ci/links.py build/site
	@echo "build/site/index.html can be opened, search included; or: python3 -m http.server --bind 127.0.0.1 --directory build/site"

screenshots: setup  ## the documentation's pictures, from the tests of the playground and of the tutorial
	@MLPSERVE_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q -m "" tests/playground/test_page.py \
	  tests/docs/test_blocks.py::test_the_tutorial_is_one_program

export MLPSERVE_REGISTRY ?=
export MLPSERVE_VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
export MLPSERVE_REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
images:  ## the containers' images, tagged and labelled with version and revision; MLPSERVE_REGISTRY=host/team/ goes before their names
	@docker compose --profile gateway build
	@for name in trainer server client gateway; do \
	  image=$(MLPSERVE_REGISTRY)mlpserve-$$name && \
	  docker tag $$image:$(MLPSERVE_VERSION) $$image:$(MLPSERVE_VERSION)-$(MLPSERVE_REVISION) && \
	  echo $$image:$(MLPSERVE_VERSION)-$(MLPSERVE_REVISION); \
	done

wheels: setup  ## build/wheels: mlpserve, and mlpserve-wire with the libraries that it links, for this Python and processor
	@$(BIN)/python -m build --outdir build/wheels . >/dev/null
	@$(BIN)/python server/wire/install.py --wheel build/wheels
	@ls build/wheels

sbom: setup  ## what the client and the server depend on, as CycloneDX in build/sbom
	@$(BIN)/python .ci/sbom.py build/sbom

gpu-check: .venv-gpu/.wire  ## on a machine with an NVIDIA GPU: prove the GPU path and write docs/gpu/<device>.md
	@.venv-gpu/bin/python -m bench.gpu $(GPU_CHECK)

GPU_PYTHON ?= $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
GPU_ARCH ?= 90

gpu-kit: setup  ## build/gpu-kit, for a GPU machine that can download nothing: its GPU_PYTHON=3.x, its GPU_ARCH=90
	@$(BIN)/python -m bench.gpu.kit build/gpu-kit --python $(GPU_PYTHON) --arch $(GPU_ARCH)

# What is there already, and 6 GB otherwise: a Python with PyTorch for CUDA 13, and what the report needs.
GPU_MACHINE := import sys, torch, torchvision, onnx, matplotlib, PIL; sys.exit(not (torch.version.cuda or "").startswith("13."))
GPU_DOWNLOAD = $(PYTHON) -m pip --disable-pip-version-check --quiet download --no-deps --only-binary :all: \
  --constraint constraints.txt

.venv-gpu/.installed: pyproject.toml constraints.txt bench/gpu/kit/wheels.txt bench/gpu/kit/spare.txt
	@if $(PYTHON) -c '$(GPU_MACHINE)' 2>/dev/null; then \
	  echo "Making .venv-gpu over the PyTorch of $(PYTHON) (a download of 270 MB; once) ..." && \
	  rm -rf build/gpu-wheels && \
	  $(GPU_DOWNLOAD) --dest build/gpu-wheels/wheels --requirement bench/gpu/kit/wheels.txt && \
	  $(GPU_DOWNLOAD) --dest build/gpu-wheels/spare --requirement bench/gpu/kit/spare.txt && \
	  $(PYTHON) -m bench.gpu.kit.environment .venv-gpu build/gpu-wheels/wheels build/gpu-wheels/spare; \
	else \
	  echo "Installing into .venv-gpu (with PyTorch and CUDA about 7 GB; once) ..." && \
	  $(PYTHON) -m venv .venv-gpu && .venv-gpu/bin/python -m pip --disable-pip-version-check --quiet install \
	    --constraint constraints.txt --editable '.[trainer,server,gpu,score,dev]'; \
	fi
	@touch $@

clean:  ## remove what the targets made
	rm -rf $(VENV) .venv-proto .venv-triton .venv-foreign .venv-perf .venv-audit .venv-gpu .venv-cuda build/cuda build/gpu-kit build/gpu-wheels build/gpu-check demo/out

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.x $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV) (with PyTorch about 6 GB, three minutes or more; once) ..."
	@$(PYTHON) -m venv $(VENV) && $(PIP) install --upgrade pip
	@$(PYTHON) .ci/install.py $(BIN)/python --constraint constraints.txt --editable '.[trainer,server,cpu,score,dev]'
	@touch $@

.venv-audit/.installed: Makefile
	@$(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip --disable-pip-version-check --quiet install 'pip-audit>=2.7,<3'
	@touch $@

# The CUDA libraries are emulated (tests/cuda/emulator), so none of NVIDIA's packages but the reader of its metrics.
.venv-cuda/.installed: pyproject.toml constraints.txt
	@echo "Installing into .venv-cuda (0.5 GB; once) ..."
	@$(PYTHON) -m venv .venv-cuda && .venv-cuda/bin/python -m pip --disable-pip-version-check --quiet install \
	  --constraint constraints.txt --editable '.[server]' onnxruntime-gpu nvidia-ml-py
	@touch $@

.venv-proto/.installed: proto/requirements.txt
	@$(PYTHON) -m venv .venv-proto && .venv-proto/bin/pip --disable-pip-version-check --quiet install -r proto/requirements.txt
	@touch $@

# Other people's clients, for tests/foreign.
.venv-foreign/.installed: tests/foreign/requirements.txt
	@echo "Installing into .venv-foreign (0.6 GB; once) ..."
	@$(PYTHON) -m venv .venv-foreign && .venv-foreign/bin/pip --disable-pip-version-check --quiet install -r tests/foreign/requirements.txt
	@touch $@

.venv-perf/.installed: tests/foreign/install_perf_analyzer.py $(VENV)/.installed
	@$(BIN)/python tests/foreign/install_perf_analyzer.py .venv-perf
	@touch $@

# Triton's client wants an older protobuf than the tested one.
.venv-triton/.installed: Makefile
	@$(PYTHON) -m venv .venv-triton && .venv-triton/bin/pip --disable-pip-version-check --quiet install 'tritonclient[grpc]>=2.60,<3'
	@touch $@
