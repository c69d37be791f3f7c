"""How containers are made: `api` is the interface, `runc` the real engine, `process` the one without isolation."""
