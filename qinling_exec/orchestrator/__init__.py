# SPDX-License-Identifier: Apache-2.0
"""Where workers come from: one driver for each way to run them."""
