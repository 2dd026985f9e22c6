"""Steps that train methods and super-resolve series."""
