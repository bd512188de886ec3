"""The console: remediations as web pages, rendered on the server, and the place where a person approves or rejects."""
