"""NR link model: MCS and CQI tables, transport block size, and block error rate over SINR.

Modules, each usable by itself:

* :mod:`distila.xapp.nr.mcs` -- PDSCH MCS tables (TS 38.214 5.1.3.1).
* :mod:`distila.xapp.nr.cqi` -- CQI tables (TS 38.214 5.2.2.1), SINR to CQI, CQI to MCS.
* :mod:`distila.xapp.nr.tbs` -- transport block size (TS 38.214 5.1.3.2), code block segmentation (TS 38.212 5.2.2).
* :mod:`distila.xapp.nr.bler` -- code-block and transport-block error rates, and the SINR that a target needs.

Everything is vectorised numpy: arguments broadcast, results are arrays (0-d for scalars). Names carry their
units. Bad arguments raise ValueError with one line that says what would be right.
"""
