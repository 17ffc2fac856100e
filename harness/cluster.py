"""Jobs on a Ray cluster: the only module that knows Ray."""
