# Every target sets up what it needs, once; `make help` lists them.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
EXECUTED := results/notebooks
PAPERMILL := $(BIN)/papermill --no-progress-bar --log-output
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# Settings of the caller's that would bring other packages, or another kernel, into the environment.
unexport PYTHONPATH PYTHONHOME JUPYTER_PATH
export PYTHONNOUSERSITE := 1
export JUPYTER_PREFER_ENV_PATH := 1

# A clone that was copied or moved, or whose Python is gone, is set up anew: .ready holds the environment's place.
STALE := $(shell [ "$$(cat '$(READY)' 2>/dev/null)" = "$$(cd '$(VENV)' 2>/dev/null && pwd -P)" ] && '$(BIN)/python' -c pass 2>/dev/null || echo stale)

.PHONY: stale help setup demo test bench stress audit mnist faces anime study notebooks lab page explore slides assignment solutions dist-demo dist-test clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %s\t%s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml constraints.txt tools/setup.sh tools/jupyterlab.json $(STALE)
	@sh tools/setup.sh $(VENV)
	@cd $(VENV) && pwd -P > .ready

setup: $(READY)  ## make the virtual environment (.venv) and install everything

demo: $(READY)  ## run the first experiment headlessly: a dense VAE on digits
	@mkdir -p $(EXECUTED)
	$(PAPERMILL) notebooks/mnist_densevae_bce.ipynb $(EXECUTED)/mnist_densevae_bce.ipynb
	@echo
	@echo "The executed notebook: $(EXECUTED)/mnist_densevae_bce.ipynb"
	@echo "Its images:          $$(grep -o 'results/own/images/[^"\ ]*' $(EXECUTED)/mnist_densevae_bce.ipynb | head -n 1)"

test: $(READY)  ## run all tests: ruff, the package's and every notebook
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: $(READY)  ## measure speed beside JAX's, and PyTorch's if it is installed (an hour on an otherwise idle machine)
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/levers.py
	$(BIN)/python benchmarks/late_steps.py
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/neighbours.py

stress: $(READY)  ## abuse it: 100 kills, 2,000 spoilt files, full and read-only disks (6 minutes)
	$(BIN)/python tests/stress/kills.py
	$(BIN)/python tests/stress/mutations.py
	$(BIN)/python tests/stress/disks.py

audit: $(READY)  ## list known vulnerabilities of the pinned packages (needs the network; see docs/security.md)
	$(BIN)/python tools/audit.py

mnist: $(READY)  ## the three experiments on MNIST, 50 epochs each, into results/own (7 to 25 minutes on two cores)
	@mkdir -p $(EXECUTED)
	@for name in densevae_bce densevae_l2 densevae_logreg; do \
	    $(PAPERMILL) notebooks/mnist_$$name.ipynb $(EXECUTED)/mnist_$${name}_50.ipynb \
	        -p data mnist -p epochs 50 -p resume True || exit 1; \
	done

# $(call faces,DATA): the five face experiments, each as NOTEBOOK:EPOCHS
define faces
	@mkdir -p $(EXECUTED)
	@for run in $(RUNS); do \
	    name=$${run%:*}; epochs=$${run#*:}; \
	    $(PAPERMILL) notebooks/anime_$$name.ipynb $(EXECUTED)/anime_$${name}_$(1)_$$epochs.ipynb \
	        -p data $(1) -p epochs $$epochs -p resume True || exit 1; \
	done
endef

faces: RUNS := convvae_bce:30 convvae_convdisc:30 densevae_bce:50 densevae_logreg:20 convvae_resnet:5
faces: $(READY)  ## the five experiments on drawn faces, into results/own (15 to 40 minutes on two cores)
	$(call faces,drawn)

anime: RUNS := convvae_bce:200 convvae_convdisc:200 densevae_bce:200 densevae_logreg:50 convvae_resnet:20
anime: $(READY)  ## the five experiments on the images in data/anime, into results/own (five to thirteen hours for 23,000)
	$(call faces,anime)

study: $(READY)  ## is it sharper? all trainings of the study of sharpness that are not done yet, into results/study (hours)
	$(BIN)/python -m d2lvae.evaluation.study

dist-demo: $(READY)  ## two workers and a parameter server on this machine: one training, then images/s, bytes moved a step, and what more machines would give
	@mkdir -p $(EXECUTED)
	$(BIN)/python -m d2lvae.distributed --workers 2 -- $(PAPERMILL) notebooks/mnist_densevae_bce.ipynb \
	    $(EXECUTED)/mnist_densevae_bce_dist.ipynb -p data drawn -p epochs 2 -p kvstore dist_sync
	$(BIN)/python benchmarks/distributed.py

dist-test: $(READY)  ## the long tests of distributed training: every net, every kind of death, separate networks (root and ip; a few minutes)
	$(BIN)/python -m pytest -m dist

notebooks: $(READY)  ## execute the committed notebooks anew, on drawn digits and drawn faces
	$(BIN)/python tools/execute_notebooks.py $(NOTEBOOKS)

slides: $(READY)  ## slides of the two key notebooks for a lecture, into results/slides
	$(BIN)/python tools/slides.py results/slides notebooks/mnist_densevae_logreg.ipynb notebooks/anime_convvae_learned.ipynb

assignment: $(READY)  ## the exercises for students, without solutions, into results/assignments/student
	$(BIN)/python tools/assignments.py student

solutions: $(READY)  ## the exercises with solutions, executed and checked, into results/assignments/solutions (minutes)
	$(BIN)/python tools/assignments.py solutions

lab: $(READY)  ## open JupyterLab in this folder, at the notebooks
	$(BIN)/jupyter lab $(AS_ROOT) --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/README.md

page: $(READY)  ## the explorer of your own finished runs as one file, results/own/explorer.html (trains small ones if there are none)
	$(BIN)/python -m d2lvae.demo.page

explore: $(READY)  ## open the explorer in the browser: your own page if there is one, else docs/explorer.html
	$(BIN)/python -c "import pathlib, webbrowser; \
	    pages = [pathlib.Path('results/own/explorer.html'), pathlib.Path('docs/explorer.html')]; \
	    page = next(page for page in pages if page.exists()).resolve(); \
	    print(page if webbrowser.open(page.as_uri()) else f'no browser here; open {page}')"

clean:  ## remove the virtual environment and caches; results and data stay
	rm -rf $(VENV) .venv-jax .pytest_cache build *.egg-info
