"""The whole platform on one machine, without docker and without an AWS account."""
