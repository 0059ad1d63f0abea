"""The one exception for bad input: a single line that a person can act on.

The command line prints it without a traceback and exits with status 2.
"""


class InputError(ValueError):
    """Bad input from outside: names the file or message, the field, the value, and what would be right."""
