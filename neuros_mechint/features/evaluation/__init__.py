"""Evaluation of sparse autoencoders that cannot flatter: held out, at matched sparsity, beside what chance gives."""
