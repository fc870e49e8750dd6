"""Settings, from the environment to the form that clients use."""
