"""`lldeg submit`: the command, its progress display, the dry run and the remote Ray job."""
