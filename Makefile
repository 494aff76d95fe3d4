# make demo | make demo-real | make test | make check: each sets up all that it needs in .venv first.
PYTHON ?= python3
BIN := .venv/bin

# Files that neither train nor start a process, for between two edits: a minute.
FAST := $(addprefix tests/,test_citations.py test_config.py views/test_corrupt.py views/test_crops.py data/test_split.py views/test_jitter.py \
	test_mutants.py views/test_recipes.py test_run.py test_statistics.py branches/test_lcr.py branches/test_spherical_kmeans.py branches/test_xcorr.py \
	generators/test_clean.py generators/test_coverage.py generators/test_photometry.py generators/test_random.py \
	generators/test_raster.py heatmaps/test_perturb.py heatmaps/test_score.py heatmaps/test_truth.py \
	methods/test_losses.py methods/test_nt_xent.py methods/test_prototypes.py methods/test_targets.py \
	probes/test_knn.py probes/test_retrieval.py \
	probes/test_spectrum.py probes/test_scores.py reports/test_tables.py train/test_monitor.py \
	train/test_optim.py)

.PHONY: install develop demo demo-real encoder test test-fast lint docs check mutants bench bench-smoke clean

# What users need; torch is most of it.
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, found $$($(PYTHON) --version); type: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "installing 1.5 GB into .venv, most of it torch; a minute or two"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[opencv]'
	@touch $@

# And what the tests compare with: oracles, peers, ruff, mypy.
develop: .venv/developing

.venv/developing: .venv/installed
	@echo "installing 1.3 GB more, what the tests compare with; a minute or two"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/probekit demo

demo-real: install
	$(BIN)/probekit demo --real

# The encoder that `demo --quick` brings along, made anew: four minutes of one core. Another processor rounds otherwise.
encoder: install
	$(BIN)/probekit gen rect-tri --n 1000 --n-test 500 --out data/demo-encoder.h5
	OMP_NUM_THREADS=1 $(BIN)/probekit pretrain conrec-gap --data data/demo-encoder.h5 --name demo-encoder \
		--device cpu --precision fp32 --set train.eval_every=1000
	cp runs/demo-encoder/encoder.safetensors probekit/demo.safetensors

# One thread a process: two test processes with two threads each would fight over two cores. What is compiled is kept,
# whatever the environment says: else each process compiles all anew.
test: develop
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: develop
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --fast $(FAST)

lint: develop
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The pages as a site, in site/; what is linked and is not there is an error. Nothing is fetched, neither here nor by a reader.
docs: develop
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint docs test

# Faults by hand, which the tests must find (tests/mutants.toml).
mutants: develop
	$(BIN)/python -m tests.mutants

bench: develop
	$(BIN)/python -m benchmarks.generators
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.step_peer
	$(BIN)/python -m benchmarks.views
	$(BIN)/python -m benchmarks.probe
	$(BIN)/python -m benchmarks.h5
	$(BIN)/python -m benchmarks.heatmaps
	$(BIN)/python -m benchmarks.exam
	$(BIN)/python -m benchmarks.importers
	$(BIN)/python -m benchmarks.placement
	$(BIN)/python -m benchmarks.branches
	$(BIN)/python -m benchmarks.clustering
	$(BIN)/python -m benchmarks.protocols
	$(BIN)/python -m benchmarks.growth

# Ratios to peers against the committed ones; fails past 25 % worse.
bench-smoke: develop
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.smoke

clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
