"""Release policies: what must hold on which task, and whether a variant may ship."""
