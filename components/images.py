"""The image that steps run in. The name holds "python", or KFP warns that it cannot run a function in it."""

import os

BASE_IMAGE = os.environ.get("NEXTPAGE_IMAGE", "ghcr.io/nextpage/components:0.1.0-python3.11")
