"""qdrant-client's own tests, run twice: straight to our stand-in, and to it through the sidecar.

Nothing of theirs is kept here: a checkout is named by whoever runs them. A test that fails both
ways fails for the stand-in's sake (tests/support/qdrant says what it lacks) or because it is older
than the client that is installed; one that fails only through the sidecar is the sidecar's fault.
"""
