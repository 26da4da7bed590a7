# SPDX-License-Identifier: Apache-2.0
"""The server that runs functions: standard library only, the same in a pod and on a laptop."""
