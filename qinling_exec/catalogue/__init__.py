# SPDX-License-Identifier: Apache-2.0
"""What can be run: runtimes, functions, their versions and aliases."""
