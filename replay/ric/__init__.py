"""Stand-ins for a near-RT RIC on one machine: E2 termination, the platform's managers and A1, over their protocols."""
