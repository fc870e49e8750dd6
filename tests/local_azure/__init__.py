"""Tests of the stand-ins for Azure."""
