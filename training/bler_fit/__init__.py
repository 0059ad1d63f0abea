"""Fits the BLER curves that :mod:`distila.xapp.nr.bler` ships, to Sionna's simulated PDSCH tables."""
