# SPDX-License-Identifier: Apache-2.0
"""What a project may have: its limits, and holding it to them."""
