"""Stacked networks: R networks of one shape, trained as one."""
