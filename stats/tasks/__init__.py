"""Tests over several tasks together, and over variants that share them."""
