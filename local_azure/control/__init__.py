"""Control routes, with which tests inspect the local Azure and plant faults."""
