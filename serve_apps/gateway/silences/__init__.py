"""Silences: what people do not want to be acted on for a while, after Alertmanager's model."""
