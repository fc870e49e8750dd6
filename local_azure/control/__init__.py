"""Control routes, by which tests look into the stand-ins and break them on purpose."""
