"""The controllers, one package a kind, and the Ray actors that run them."""
