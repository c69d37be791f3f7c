"""The two tiers of HAProxy that the router replaces: rendered from its tables, and read back into its configuration."""
