"""How every workflow runs: named steps that are kept, a manifest, and its repetition."""
