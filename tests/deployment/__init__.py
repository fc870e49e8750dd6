"""What other hosts than App Service, and the supply chain, are made of."""
