"""Users with sticky sessions, played by locust."""
