"""The deployment on AWS: CloudFormation templates, and what renders and deploys them."""
