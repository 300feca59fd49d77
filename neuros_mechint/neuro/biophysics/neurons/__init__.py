"""Point neurons: the same equations as a step of torch and as the text of a Brian2 model."""
