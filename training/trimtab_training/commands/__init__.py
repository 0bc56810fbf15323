"""The commands that need training packages: each parses, calls one function, and prints."""
