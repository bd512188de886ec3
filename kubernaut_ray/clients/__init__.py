"""HTTP clients of our own services, spoken in the models of ``contracts``."""
