"""What a recurrent network computes by moving."""
