"""Load measurements: the router, HAProxy, nginx and a plain Python router with equal features on one CPU."""
