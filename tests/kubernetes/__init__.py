# SPDX-License-Identifier: Apache-2.0
"""Tests on a real Kubernetes cluster; see tests/kubernetes/cluster.py for which one."""
