# SPDX-License-Identifier: Apache-2.0
"""Sphinx: the release notes."""

project = "qinling-exec release notes"
author = "The qinling-exec developers"
copyright = "The qinling-exec developers"

extensions = ["reno.sphinxext"]
master_doc = "index"
html_theme = "alabaster"
html_show_sphinx = False
