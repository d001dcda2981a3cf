"""Devices, processes and precision: the only place that knows of them."""
