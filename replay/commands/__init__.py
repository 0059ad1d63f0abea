"""Subcommands of `distila` that work offline, on traces and logs."""
