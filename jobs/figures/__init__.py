"""Figures: the studies behind the method, and the look that all plots of lldeg share."""
