"""The stand-in for Azure Communication Services Identity."""
