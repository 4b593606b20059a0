"""MLflow Model Registry: resolve names to versions, and fetch their files."""
