"""The RAN stand-in: traces and their importers, a DU with its own link adaptation, closed- and open-loop replay."""
