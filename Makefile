# The two commands of a fresh machine: `make run` and `make test`. Both do all their own set-up.

SAMPLE := www/sample
DEMO   := target/demo
PORT   ?= 4173
# Programs and tests in one build, so that crates get the same features; benchmarks have no tests.
TESTED  := --workspace --exclude quantoscope-benches --exclude quantoscope-peers
PROGRAM := cargo build $(TESTED) --bins --tests
# The builder of the page's WebAssembly; where the whole workspace is built anyway, that one.
WASM_BUILD := cargo run --profile dev -p quantoscope-wasm-build
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug
# Tests of Rust by nextest where it is installed, else by cargo: the same ones.
TESTS := $(shell cargo nextest --version >/dev/null 2>&1 && echo cargo nextest run $(TESTED) || echo cargo test $(TESTED) --no-fail-fast)
# Every test is in one of the two: those marked `#[ignore = "make proof"]` are in the second.
TEST := unit e2e
PROOF := kernels wasm-test wasm-devices page-endurance neon ptx oracle engine candle miri
# Makes targets one after another, and says how long each took.
TIMED = set -e; for part in $(1); do begun=$$(date +%s); $(MAKE) --no-print-directory $$part; \
  printf '\n== %s: %d s\n\n' $$part $$(($$(date +%s) - begun)); done

.PHONY: run test proof cli page demo serve $(TEST) $(PROOF) page-throughput lint elsewhere bench devices matrix vectors clean

## run: quantize the sample model on the command line, then serve the page
run: cli page demo serve

## test: set up, build, and pass what every change must: units, formats, conformance on the processor, command line, page
test:
	@$(call TIMED,$(TEST))

## proof: all other tests: device kernels in five float modes, the WebAssembly engine, long runs of the page, ARM, CUDA texts, oracles, llama.cpp, candle, Miri
proof:
	@$(call TIMED,$(PROOF))

cli:
	@tests/setup.sh rust
	cargo build --release -p quantoscope

page:
	@tests/setup.sh wasm node
	$(WASM_BUILD)
	cd www && npm run --silent check && npm run --silent build

demo:
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	target/release/quantoscope quantize $(SAMPLE) -o $(DEMO)/sample-q4_0.gguf --type q4_0

serve:
	@printf '\n  Quantoscope is at http://localhost:$(PORT)  (stop it with Ctrl-C)\n\n'
	@cd www && npx vite preview --port $(PORT) --strictPort --logLevel warn

unit:
	@tests/setup.sh rust wasm gpu faults
	$(PROGRAM)
	$(TESTS)
	cargo test $(TESTED) --doc --quiet

## kernels: what the kernels of devices are proven by, on a graphics device in software in five float modes, and a machine for PTX
kernels:
	@tests/setup.sh rust wasm gpu
	$(PROGRAM)
	VK_DRIVER_FILES=$$(echo /usr/share/vulkan/icd.d/lvp_icd*.json) $(TESTS) -- --ignored --skip by_hand_

# No inline assembly of the mathematics library, which Miri cannot run.
MIRI_TARGET := riscv64gc-unknown-linux-gnu
MIRI_TEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run || echo test)
## miri: packing of bytes and bits in an interpreter that finds undefined behaviour; needs a nightly toolchain
miri:
	@if ! tests/setup.sh miri; then echo 'no nightly toolchain is to be had here: Miri is left out'; exit 0; fi; \
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri $(MIRI_TEST) -p quantoscope-core --test packing --target $(MIRI_TARGET) --target-dir $(or $(CARGO_TARGET_DIR),target)/miri

## neon: vectors, refusals and equal bytes on the engine of 64-bit ARM, emulated
neon:
	@tests/setup.sh neon
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
	  cargo test --target aarch64-unknown-linux-gnu -p quantoscope-tests --test conformance -- vectors:: refusals:: engines:: differential::

## ptx: the CUDA kernels' texts are what their sources make, and assemble for every architecture; no GPU is needed
ptx:
	@tests/setup.sh ptx
	target/ptx/bin/python tests/generate/ptx.py --gate

oracle:
	@tests/setup.sh rust python
	$(PROGRAM)
	tests/oracle/run

## engine: converted folders in llama.cpp: token ids and greedy tokens equal those of its own converter's files
engine:
	@tests/setup.sh rust engine
	$(PROGRAM)
	node tests/engine/run.mjs $(BUILT)/quantoscope

## candle: the forward pass beside candle's models, whose many crates only this builds
candle:
	@tests/setup.sh rust
	cargo test --manifest-path tests/candle/Cargo.toml --target-dir $(or $(CARGO_TARGET_DIR),target)/candle

WASM_TESTS := cd wasm && WASM_BINDGEN_TEST_TIMEOUT=3600 PATH="$(CURDIR)/.tools/bin:$$PATH" \
  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=wasm-bindgen-test-runner cargo test --target wasm32-unknown-unknown

## wasm-test: the engine of WebAssembly and the interface of the page's worker, in the browser
wasm-test:
	@tests/setup.sh wasm chromium runner
	$(WASM_TESTS) --test session --test recipes --test vectors

## wasm-devices: WebGPU in the browser, of the module and of the page
wasm-devices:
	@tests/setup.sh wasm chromium runner
	$(WASM_TESTS) --test devices --test gpu
	$(PROGRAM)
	$(MAKE) --no-print-directory page WASM_BUILD=$(BUILT)/quantoscope-wasm-build
	cd www && npm run --silent test:devices

## e2e: the page in the browser
e2e:
	@tests/setup.sh wasm chromium
	$(PROGRAM)
	$(MAKE) --no-print-directory page WASM_BUILD=$(BUILT)/quantoscope-wasm-build
	cd www && npm run --silent test

## page-endurance: folders of every family, and conversions in a row in one tab, into a picked file and into private storage; COUNT of each, SIZE in MB
COUNT ?= 50
SIZE  ?= 1000
page-endurance:
	@tests/setup.sh wasm chromium
	$(PROGRAM)
	$(MAKE) --no-print-directory page WASM_BUILD=$(BUILT)/quantoscope-wasm-build
	cd www && CORPUS=all node --test e2e/folders.test.mjs
	cd www && for target in picked private; do node e2e/endurance.mjs --count $(COUNT) --size $(SIZE) --target $$target || exit 1; done

## page-throughput: a picked file beside private storage; BUILDS="before=PATH now=dist" sets builds of the page side by side
BUILDS ?= now=dist
page-throughput: page
	@tests/setup.sh chromium
	cd www && node e2e/throughput.mjs $(BUILDS)

## lint: formatting, clippy, documentation, licences and sources of dependencies, the core without an operating system
lint:
	@tests/setup.sh wasm deny
	cargo fmt --all --check
	cargo fmt --manifest-path tests/candle/Cargo.toml --check
	.tools/bin/cargo-deny check bans licenses sources
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
	cargo clippy -p quantoscope-core --no-default-features -- -D warnings
	cargo clippy -p quantoscope-wasm -p quantoscope-wasm-tokenizer --target wasm32-unknown-unknown -- -D warnings
	cargo clippy -p quantoscope-wasm --no-default-features --target wasm32-unknown-unknown -- -D warnings
	cargo check -p quantoscope-core --no-default-features --target thumbv7em-none-eabihf

## elsewhere: the command line with all its devices, checked for macOS and Windows
elsewhere:
	@tests/setup.sh elsewhere
	cargo check -p quantoscope --target aarch64-apple-darwin
	cargo check -p quantoscope --target x86_64-pc-windows-msvc

## bench: ours beside llama.cpp's, and the goals; recorded in benches/record (takes a quarter of an hour, 4 GB of disk)
bench: cli
	@tests/setup.sh peers
	cargo build --release -p quantoscope-peers
	cargo build --release -p quantoscope-peers --target wasm32-wasip1
	benches/peers/peers.py --record

## devices: whether this machine's devices are exact, and how fast; recorded in benches/record (a quarter of an hour, more in software)
devices:
	@tests/setup.sh rust gpu
	benches/devices.py --record

## matrix: writes the table in docs/types.md from the table of types in the code
matrix:
	@tests/setup.sh rust
	UPDATE_README=1 cargo test -p quantoscope-tests --test architecture matrix

## vectors: make the test vectors anew from the pinned reference (see tests/generate/README.md)
vectors:
	tests/generate/run

clean:
	cargo clean
	rm -rf .tools www/node_modules www/dist www/src/pkg
