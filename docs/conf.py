"""Sphinx configuration."""

project = "relukit"
author = "The relukit developers"
extensions = ["myst_nb"]
html_theme = "furo"
myst_enable_extensions = ["deflist", "dollarmath"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
exclude_patterns = ["_build"]
nb_execution_timeout = 300  # seconds a cell may take: build machines are shared
