"""Lyapunov exponents: of systems from their Jacobians, of recordings from the divergence of neighbours."""
