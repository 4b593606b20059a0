"""The process that one version of a model lives in: the standard library and MLflow, run by its path.

Any interpreter from 3.10 on that has MLflow from 2.22 on can be told to run this folder.
"""
