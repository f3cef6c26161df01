"""Config classes to inherit from, as lab has them."""
