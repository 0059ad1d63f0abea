"""Importers: convert logs and tables from other sources to channel traces and KPI logs of this project.

Each one parses text or tables into typed arrays without touching files, then builds the trace or log, and
returns an `ImportReport` (`counts`) beside it that accounts for every row which was not used.
"""
