# Everything a fresh machine needs: git, make, Python 3.11 or newer and a package registry.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Chosen because the bundled model loses a thing in one of its four seeds.
PROMPT ?= a bird and a frog
SEEDS ?= 0-3
OUT ?= out
# As everywhere, the best that works in this run; any of `attnreg methods`.
METHOD ?= auto
# More options of `attnreg generate`: make generate OPTIONS="--steps 20"
OPTIONS ?=

.PHONY: help generate app test check docs notebooks sheets cost figures results train-pocket train-pocket-joint train-judge clean

help:
	@echo 'make generate PROMPT="a bird and a frog"         draw it, four seeds, unmodified and regulated side by side'
	@echo 'make app                                         the same in a browser, on this machine: http://127.0.0.1:7860'
	@echo 'make test                                        lint, types, docs and tests, as CI runs them'
	@echo 'make docs                                        the documentation site, into build/site'
	@echo 'make notebooks                                   the notebooks of examples/ run again, with what they show'
	@echo 'make sheets                                      the pictures of the README and the docs, drawn again'
	@echo 'make cost                                        what each method costs on the bundled model'
	@echo 'make figures                                     how good the bundled model and its judge are'
	@echo 'make results                                     the tables of docs/results.md and the report, measured again'
	@echo 'make train-pocket                                the bundled model, from nothing (resumes if stopped)'
	@echo 'make train-pocket-joint                          the one with joint attention, on from the weights that are there'
	@echo 'make train-judge                                 its judge and the judge of the judge, likewise'

# Handed over as variables: quotes and dollars in a prompt are no business of the shell's.
generate: export ATTNREG_PROMPT = $(PROMPT)
generate: $(VENV)/.run
	@$(BIN)/attnreg generate "$$ATTNREG_PROMPT" --seeds "$(SEEDS)" --method "$(METHOD)" --out "$(OUT)" $(OPTIONS)

app: $(VENV)/.app
	@$(BIN)/attnreg app --out "$(OUT)/app" $(OPTIONS)

# One thread a worker: two workers with two threads each get in each other's way on two cores.
test: check docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Warnings are errors, and so is a link that leads nowhere.
docs: $(VENV)/.test
	$(BIN)/python -m website

notebooks: $(VENV)/.test
	$(BIN)/python -m website.notebooks

sheets: $(VENV)/.test
	$(BIN)/python -m benchmarks.sheets
	$(BIN)/python -m benchmarks.map_sheets

cost: $(VENV)/.test
	$(BIN)/python -m benchmarks.cost --prompts 8

figures: $(VENV)/.test
	$(BIN)/python -m benchmarks.pocket_figures

# The run itself stays in out/: it can be stopped and goes on where it was.
results: $(VENV)/.test
	$(BIN)/attnreg bench run docs/results/full.yaml --out out/full
	$(BIN)/attnreg bench report out/full --out docs/results/full.html
	$(BIN)/attnreg bench table out/full --format csv --out docs/results/full.csv
	$(BIN)/attnreg bench table out/full --readme docs/results.md
	$(BIN)/python -m benchmarks.renderings out/renderings
	$(BIN)/attnreg bench distances out/full --reference out/renderings --out docs/results/distances.md
	set -e; for run in seeds unseen-pairs three-things; do \
		$(BIN)/attnreg bench run docs/results/$$run.yaml --out out/$$run; \
		$(BIN)/attnreg bench table out/$$run --format csv --out docs/results/$$run.csv; \
	done

train-pocket: $(VENV)/.test
	$(BIN)/python -m training.pocket

train-pocket-joint: $(VENV)/.test
	$(BIN)/python -m training.pocket_joint

train-judge: $(VENV)/.test
	$(BIN)/python -m training.judge
	$(BIN)/python -m training.second_judge

# Editable, so that the command runs the tree it is called in; the stamps say which extras are in.
$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.app: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[app]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,training]'
	@touch $@

clean:
	rm -rf $(VENV) out build dist
