"""The commands of `distila` that need the offline workshop."""
