"""Reviews of evalscope."""
