# make app    make chat    make chat PROMPT="..."    make web-serve    make test    make screenshots

CARGO ?= cargo
# Given to every cargo command that builds, for example --offline or --locked.
CARGO_FLAGS ?=
# Given to `cargo test`, for example --test kernels.
TEST_FLAGS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# Prompt and model go by the environment, as they were typed: neither make nor the shell reads their quotes and dollars. Only those
# given to make count, since some shells have a PROMPT of their own.
ifeq ($(origin PROMPT),command line)
override PROMPT := $(value PROMPT)
export FATHOM_PROMPT := $(value PROMPT)
endif
ifeq ($(origin MODEL),command line)
override MODEL := $(value MODEL)
export FATHOM_MODEL := $(value MODEL)
endif
unexport PROMPT MODEL

.PHONY: help setup app chat web web-serve test screenshots
.DEFAULT_GOAL := help

help:
	@echo 'make app                set up, build, and chat with the default model in a window'
	@echo 'make app MODEL=path     the same, with another model'
	@echo 'make chat               set up, build, and chat with the default model in the terminal'
	@echo 'make chat PROMPT="..."  the same, for one answer'
	@echo 'make web                build the page for browsers into web/dist'
	@echo 'make web-serve          the same, and serve it on this machine (PORT=8080)'
	@echo 'make test               set up, and run every check: format, clippy, docs, tests'
	@echo 'make screenshots        draw the window'"'"'s main states into assets/screenshots/'
	@echo 'make setup              only the set-up: Vulkan driver, default model'
	@echo
	@echo 'Variables: CARGO, CARGO_FLAGS (such as --offline), TEST_FLAGS (such as --test kernels), CHROMIUM,'
	@echo 'FATHOM_MODEL_URL (where else to fetch the default model from), ALLOW_NO_BROWSER=1, ALLOW_NO_WINDOW=1, ALLOW_NO_GPU=1'

setup:
	@CARGO='$(CARGO)' .setup/setup.sh

app: setup
	@$(CARGO) build --release $(CARGO_FLAGS)
	@if [ -n "$$FATHOM_MODEL" ]; then exec '$(TARGET_DIR)/release/fathom' app "$$FATHOM_MODEL"; else exec '$(TARGET_DIR)/release/fathom' app; fi

chat: setup
	@$(CARGO) build --release $(CARGO_FLAGS)
	@if [ -n "$$FATHOM_PROMPT" ]; then exec '$(TARGET_DIR)/release/fathom' chat -p="$$FATHOM_PROMPT"; else exec '$(TARGET_DIR)/release/fathom' chat; fi

# The page for browsers, to be served by any static host.
web:
	@CARGO='$(CARGO)' .setup/setup.sh --web
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' web/build.sh

web-serve: web
	@rustc --edition 2024 -O -o .setup/state/bin/serve web/serve.rs
	@exec .setup/state/bin/serve $(or $(PORT),8080)

# The window's main states, drawn by the real code, into assets/screenshots/.
screenshots:
	@CARGO='$(CARGO)' .setup/setup.sh --test
	@$(CARGO) test --release $(CARGO_FLAGS) --test app_pictures -- --ignored --exact screenshots

test:
	@CARGO='$(CARGO)' .setup/setup.sh --test
	@echo '== page'
	@CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' web/build.sh
	@echo '== format'
	@$(CARGO) fmt --check
	@echo '== clippy'
	@$(CARGO) clippy --release --all-targets $(CARGO_FLAGS) -- -D warnings
	@$(CARGO) clippy --profile web --target wasm32-unknown-unknown -p fathom-web $(CARGO_FLAGS) -- -D warnings
	@echo '== docs'
	@RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --no-deps --document-private-items $(CARGO_FLAGS)
	@echo '== tests'
	@$(CARGO) test --release $(CARGO_FLAGS) $(TEST_FLAGS)
