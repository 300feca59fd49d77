"""What a trained transformer does, and by which parts."""
