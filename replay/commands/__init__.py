"""Subcommands of `distila` that need the replay: replay, trace, bench."""
