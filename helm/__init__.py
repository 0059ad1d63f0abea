"""The helm chart, the xApp descriptor inside it, and what writes and checks their schemas. Not part of the package."""
