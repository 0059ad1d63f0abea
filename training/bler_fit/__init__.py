"""Fits the BLER curves that :mod:`xapp.nr.bler` ships, to Sionna's simulated PDSCH tables."""
