"""Effects along single connections: edges between the parts of a model, chains of them, and flow through layers."""
