"""The control plane: configuration, message bus, registry, administration. Python on the main thread."""
