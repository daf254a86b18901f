# Every job of the repository. `make demo` and `make test` set up what they need.

CARGO ?= cargo
NNBPFC := target/release/nnbpfc
NNBPF := target/release/nnbpf

.PHONY: all build demo test kernels bench lab book lint clean

all: build

build:
	$(CARGO) build --release --workspace --bins

# Replays the committed capture over a veth pair and shows the kernel's verdicts.
demo:
	@xtask/scripts/install.sh build
	@$(CARGO) build --quiet --release --workspace --bins
	@xtask/scripts/demo.sh

# Runs every test; prints totals and counts what was skipped and why.
test:
	@xtask/scripts/install.sh test
	@xtask/scripts/test.sh

# Loads and runs objects in Debian's kernels from 5.10 on, under emulation; KERNELS="5.10 6.1" takes some of them.
kernels:
	@xtask/scripts/install.sh kernels
	@$(CARGO) build --quiet --release --workspace --bins
	@xtask/kernels/run.sh $(KERNELS)

# Measures speed beside four baselines and writes target/bench/results.md; QUICK=1 takes fewer rounds and shapes.
bench:
	@xtask/scripts/install.sh bench
	@$(CARGO) build --quiet --release --workspace --bins
	@bench/run.sh $(if $(QUICK),--quick)

# Builds the traffic lab in network namespaces and writes labelled captures to lab-out/.
lab:
	@xtask/lab/run.sh

# Builds the user's guide to book/book where mdbook is installed; its commands are run by `make test`.
book:
	@if command -v mdbook >/dev/null; then mdbook build book; \
	else echo "mdbook is not installed: cargo install mdbook" >&2; exit 1; fi

# Formatting, lints and documentation: whatever they find is an error.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps

clean:
	$(CARGO) clean
