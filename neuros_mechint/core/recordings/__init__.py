"""Recordings of brains: reading, checking, joining and rearranging them."""
