"""The commands that need training packages: each parses, calls one function, and prints."""

import os

# Read when torch or FAISS is loaded: threads that share a step sleep while they wait for one
# another. By default they spin, and where another process takes their core, for as long as it does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
