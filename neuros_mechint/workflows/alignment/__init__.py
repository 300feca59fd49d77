"""A model beside a brain."""
