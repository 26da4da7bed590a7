# SPDX-License-Identifier: Apache-2.0
"""Sphinx: the reference of the REST API."""

from importlib import metadata

project = "qinling-exec API"
author = "The qinling-exec developers"
copyright = "The qinling-exec developers"
release = version = metadata.version("qinling-exec")

extensions = ["os_api_ref"]
master_doc = "index"
html_theme = "alabaster"
html_theme_options = {"fixed_sidebar": True, "page_width": "80em"}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["plain.css"]
