"""The HTTP services: each has ``app.py`` (FastAPI, no Ray) and ``serve.py`` (how Ray Serve runs it)."""
