"""Subcommands of `distila` that the runtime brings: run, policy."""
