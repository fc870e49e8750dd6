"""The local version of Azure Communication Services Identity."""
