"""Isolated, limited, short-lived environments for apps, managed over one API on a unix socket."""
