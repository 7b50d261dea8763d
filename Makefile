# `make demo` runs the whole path on synthetic people; `make test` proves it. Both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo
# All that needs no file of others, but for motion, which would double the time.
DEMO_METRICS ?= pixel,perceptual,identity,distribution
METHODS := --method copy --method warp --method attlwb-small=lwgan:attlwb-small \
	--method personalized=lwgan:attlwb-small+quick
ABLATIONS := --method texture-warping=lwgan:texture-warping-small --method add-lwb=lwgan:addlwb-small \
	--method avg-lwb=lwgan:avglwb-small --method input-concat=lwgan:input-concat-small

.PHONY: help setup demo demo-full test test-slow bench lint format clean

help:
	@echo "make setup      create .venv with the versions of requirements.lock"
	@echo "make demo       synthesise people, prepare them, run the benchmark, write a report"
	@echo "make demo-full  the same with 24 people and four ablations (five times the work)"
	@echo "make test       the fast tests (CPU, offline, under 10 minutes)"
	@echo "make test-slow  the slow proofs: kills, wheel, coverage of the intervals"
	@echo "make bench      speed of the rasterizer, of prepare and of the metrics on this machine"
	@echo "make lint       formatting, lint and types"

setup: .venv/ready

# uv resolves torch's build for this machine; the marker file makes the target idempotent.
.venv/ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	$(BIN)/iper synth --root $(DEMO)/data --size few --seed 1
	$(BIN)/iper prepare --root $(DEMO)/data --workers 2
	$(BIN)/lwgan-bench run --task all --root $(DEMO)/data --out $(DEMO)/run --size 256 --num-sources 2 --max-frames 8 \
		--workers 2 --metrics $(DEMO_METRICS) $(METHODS)
	$(BIN)/lwgan-bench report $(DEMO)/run

# The same with 24 people, and four ablations.
demo-full: setup
	$(BIN)/iper synth --root $(DEMO)-full/data --size many --seed 12
	$(BIN)/iper prepare --root $(DEMO)-full/data --workers 2
	$(BIN)/lwgan-bench run --task all --root $(DEMO)-full/data --out $(DEMO)-full/run --size 256 --num-sources 2 --max-frames 8 \
		--workers 2 --metrics $(DEMO_METRICS) $(METHODS) $(ABLATIONS)
	$(BIN)/lwgan-bench report $(DEMO)-full/run

test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2

test-slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	$(BIN)/python scripts/bench.py

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
