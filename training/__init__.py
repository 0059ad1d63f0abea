"""The offline workshop (torch): whatever produces the files that the runtime loads."""
