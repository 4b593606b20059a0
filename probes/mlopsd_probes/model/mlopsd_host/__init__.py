"""The process of one version of a model.

It uses only the standard library and MLflow. Any Python from 3.10 with MLflow from 2.22 can run this folder
by its path.
"""
