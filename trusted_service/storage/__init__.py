"""Azure Table Storage: the only place that knows azure.data.tables."""
