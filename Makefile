# Everything a newcomer needs: `make demo` and `make test`. Nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SEEDS ?= 300

.PHONY: help install setup demo run test coverage wheel package simulate soak fuzz bench bench-full docs screenshots clean
help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.run ## build .venv with .venv/bin/shop-poller

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "shop-poller needs Python 3.11 or later; name one with: make PYTHON=python3.11 ...")'
	@echo "Building $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python has no venv here; on Debian: apt install python3-venv"; exit 1; }

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing shop-poller and its libraries ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[apprise]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing shop-poller with what its tests need ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run ## a simulated shop and the real daemon, in this terminal (ARGS="--seconds 20" ends it)
	@$(BIN)/shop-poller demo $(ARGS)

setup: $(VENV)/.run ## ask for the shop, its keys and a Telegram bot, try them, and write .env
	@$(BIN)/shop-poller setup $(ARGS)

run: $(VENV)/.run ## watch the shop that the environment or .env names
	@$(BIN)/shop-poller run $(ARGS)

# Tests of the daemon wait half of their time, so there are more of them at once than cores; the last ones are
# shared out one by one, not by files. In a new clone pytest compiles all tests, which takes 25 s, and each of its
# processes would do it. So it is done once, beside mypy, and kept, whatever the environment says.
test: $(VENV)/.dev ## every check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only -qq >/dev/null 2>&1 </dev/null &
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 7 --dist worksteal $(ARGS)

# Measuring doubles the time of the tests, so `make test` does not do it. What runs in other processes is not measured.
coverage: $(VENV)/.dev ## branch coverage of the in-process tests; fails if core/ is below 100 %
	$(BIN)/pytest -n 7 --dist worksteal --cov --cov-report= tests/core tests/contracts tests/shell $(ARGS)
	$(BIN)/coverage report
	$(BIN)/coverage report --include='src/shop_poller/core/*' --fail-under=100

wheel: $(BIN)/python ## build dist/shop_poller-VERSION-py3-none-any.whl, for an installation by root that builds nothing
	@rm -f dist/shop_poller-*.whl
	@$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .

package: $(VENV)/.dev ## build wheel and sdist, and run the wheel in an empty environment
	$(BIN)/pytest -m package $(ARGS)

simulate: $(VENV)/.dev ## worlds that are out to break the daemon (SEEDS=1000; ARGS="--seed 7" looks into one)
	@cd tests && PYTHONHASHSEED=0 ../$(BIN)/python -m simulation --seeds $(SEEDS) $(ARGS)

soak: $(VENV)/.dev ## the long tests: kills by the hundred (SOAK_KILLS, SOAK_SEED), histories by the thousand
	$(BIN)/pytest -m soak -s $(ARGS)

fuzz: $(VENV)/.dev ## hostile input: thousands of new examples at every run
	$(BIN)/pytest --hypothesis-profile explore tests/contracts/test_source_fuzz.py tests/contracts/test_hostile.py tests/shell/test_hostile_clients.py $(ARGS)

# What is measured has an environment each: the default install, the extra "fast", and Celery with the rest.
BENCH := .venv-bench
$(BENCH)/%/.done: pyproject.toml constraints.txt
	@echo "Building $(BENCH)/$* (once) ..."
	@$(PYTHON) -m venv $(BENCH)/$*
	@$(BENCH)/$*/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
		-e '.$(if $(filter-out plain,$*),[$*])'
	@touch $@

bench: $(foreach of,plain fast bench,$(BENCH)/$(of)/.done) ## the old Celery design and this, side by side: some minutes; ARGS="--only memory,tick"
	@$(BENCH)/bench/bin/python -m benchmarks $(ARGS)

bench-full: $(foreach of,plain fast bench,$(BENCH)/$(of)/.done) ## the same with all that is counted in millions
	@$(BENCH)/bench/bin/python -m benchmarks --full $(ARGS)

docs: $(VENV)/.run ## write docs/configuration.md and docs/metrics.md anew
	$(BIN)/python docs/configuration.py
	$(BIN)/python docs/metrics.py

screenshots: $(VENV)/.dev ## take the pictures in docs/images again, with Debian's chromium
	cd tests && ../$(BIN)/python screenshots.py

clean: ## remove .venv and caches
	rm -rf $(VENV) $(BENCH) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
