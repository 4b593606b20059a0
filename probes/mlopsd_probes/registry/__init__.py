"""MLflow Model Registry: ask which version a name leads to, and fetch its files."""
