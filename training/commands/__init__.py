"""Subcommands of `distila` that train, distil and compare policies."""
