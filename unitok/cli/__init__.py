"""The command line: `main.py` has the table of commands, each other module is one of them."""
