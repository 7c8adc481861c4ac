# setup: an environment in .venv   sweep: the main job   test: checks and tests   check: checks alone
# setup compiles all modules, on all cores and once: each process does so anew where PYTHONDONTWRITEBYTECODE is set
# docs: the pages made from the code, and the site in ./site   pictures: those of docs/dashboards.md, from a sweep (needs chromium)   bench: timings
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: setup check test sweep bench docs pictures
setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("paretta needs Python 3.11 or newer; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -qq -j 0 .venv/lib orchestrator pipelines dashboards search_spaces || true
	touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/pytest --numprocesses 2 --dist loadfile --durations 20

sweep: setup
	$(BIN)/paretta launch digits

bench: setup
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.latency_noise
	$(BIN)/python -m benchmarks.record

docs: setup
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pictures: setup
	$(BIN)/python -m docs.generate.pictures
