"""Azure Table Storage: the tables, and the only place that knows `azure.data.tables`."""
