"""A shop in two versions, of which one is broken, and people who use it: the sample of docs/canary.md."""
