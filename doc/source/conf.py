# SPDX-License-Identifier: Apache-2.0
"""Sphinx: the guides."""

from importlib import metadata

project = "qinling-exec"
author = "The qinling-exec developers"
copyright = "The qinling-exec developers"
release = version = metadata.version("qinling-exec")

extensions = [
    "oslo_config.sphinxext",
    "oslo_policy.sphinxext",
]
master_doc = "index"
html_theme = "alabaster"
html_theme_options = {
    "description": "Runs functions and keeps what each run returned and printed",
    "fixed_sidebar": True,
    "page_width": "70em",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_sphinx = False
nitpicky = True
