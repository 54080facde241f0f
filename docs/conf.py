"""Sphinx configuration."""

import os

project = "relukit"
author = "The relukit developers"
project_copyright = "The relukit developers"
extensions = ["myst_nb"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["page.css"]
myst_enable_extensions = ["deflist"]
nb_render_markdown_format = "gfm"  # tables that a cell makes
nb_execution_mode = "force"
# Pages on a study's data are shown without their results where the data are not at hand.
nb_execution_excludepatterns = [] if os.environ.get("RELUKIT_DATA") else ["howto/embed.md"]
nb_execution_raise_on_error = True
nb_execution_show_tb = True
exclude_patterns = ["_build"]
nb_execution_timeout = 300  # seconds a cell may take: build machines are shared
