"""The wire: E2 octet strings to KPI reports and decisions back, and the transports that carry them."""
