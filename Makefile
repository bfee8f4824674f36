# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0

# Which ROS 2, as wheels: kilted, or jazzy (make setup DISTRO=jazzy PYTHON=python3.12), each in an environment of its
# own. A ROS that was sourced decides nothing here.
DISTRO = kilted
VENV := .venv$(if $(filter-out kilted,$(DISTRO)),-$(DISTRO))
# The Python that the environment is made of: the one it has, or else python3.
PYTHON ?= $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,python3)
# Where the demo puts its results.
OUT ?= out
# More arguments for evict3r demo: make demo DEMO_ARGS='--frames 8'
DEMO_ARGS ?=
# More arguments for pytest: make test PYTEST_ARGS='-k geometry'; '-n 0': one test after the other, as a debugger needs
PYTEST_ARGS ?=

# The environment has its own ROS and middleware. Another that was sourced, or that a Python of another environment
# handed down, would be found first and mixed with it.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONHOME PYTHONPATH RMW_IMPLEMENTATION
ifneq ($(ROS_DISTRO)$(_ROS_WHEELS_BOOTSTRAP_COMPLETE),)
unexport LD_LIBRARY_PATH ROS_DISTRO _ROS_WHEELS_BOOTSTRAP_COMPLETE
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo check test docs clean

help:
	@echo 'make setup   make .venv with all in it: packages, messages, this tree; a second if nothing changed'
	@echo '             (DISTRO=jazzy PYTHON=python3.12: .venv-jazzy, and all other commands with it)'
	@echo 'make demo    play a bag into the live node and leave bag, trajectory, cloud and picture in out/'
	@echo '             (EVICT3R_DEMO_IMAGES=FOLDER: real images; OUT=FOLDER: elsewhere;'
	@echo '             DEMO_ARGS="--frames 8": a shorter one)'
	@echo 'make check   lint, format, types, spelling, package.xml and parameter files'
	@echo 'make test    make check, then the whole test suite (PYTEST_ARGS="-k geometry": a part of it)'
	@echo 'make docs    the API as pages in docs/_build, from the docstrings; links of all pages checked'
	@echo 'make clean   remove what make setup, make demo, colcon and the tests left here'

setup:
	@command -v $(PYTHON) >/dev/null || \
		{ echo 'evict3r setup: no $(PYTHON): apt-get install python3' >&2; exit 1; }
	@$(PYTHON) tools/check_prerequisites.py
	@$(PYTHON) tools/setup_environment.py --distro $(DISTRO)

demo: setup
	@$(VENV)/bin/evict3r demo --out '$(OUT)' $(DEMO_ARGS)

check: setup
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/codespell
	@$(VENV)/bin/yamllint --strict config .github .yamllint.yaml .pre-commit-config.yaml
	@$(VENV)/bin/python -c 'from catkin_pkg.package import parse_package; parse_package("package.xml").validate()'

test: check
	@$(VENV)/bin/python -m pytest test --numprocesses auto --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

docs: setup
	@$(VENV)/bin/python tools/make_api_pages.py
	@$(VENV)/bin/python tools/check_links.py README.md CONTRIBUTING.md $(wildcard docs/*.md) docs/_build

clean:
	rm -rf .venv .venv-* build install log out docs/_build .pytest_cache .hypothesis .mypy_cache .ruff_cache evict3r_ros.egg-info
	find evict3r_ros test tools launch -name __pycache__ -type d -prune -exec rm -rf {} +
