"""The `trimtab` command: its group, and the commands that need no training packages."""
