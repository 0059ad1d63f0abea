"""What is measured and decided, as arrays: the report of a cell, the decisions that answer it, what each column means.

It knows nothing of wires (`distila.xapp.e2`) or policies (`distila.xapp.policy`); both are built on it.
"""
