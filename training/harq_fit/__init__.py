"""Measures how NR's HARQ transmissions combine in a real LDPC decoder, and fits the combining rule to the points."""
