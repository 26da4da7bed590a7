# SPDX-License-Identifier: Apache-2.0
"""Workers as pods of a Kubernetes cluster."""
