"""Dale's law: layers and networks whose units either excite or inhibit, and how to train them."""
