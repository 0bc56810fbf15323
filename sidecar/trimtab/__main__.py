"""``python -m trimtab``: the command line, where its script is not on the path."""

from trimtab.commands.group import main

if __name__ == "__main__":
    main(prog_name="trimtab")
