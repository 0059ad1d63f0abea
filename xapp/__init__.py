"""The runtime: everything the container runs, from an E2 indication to an E2 control message. No torch here."""
