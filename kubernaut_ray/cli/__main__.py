"""``python -m kubernaut_ray.cli`` is ``kubernaut-ray``."""

from kubernaut_ray.cli import app

app(prog_name="kubernaut-ray")
