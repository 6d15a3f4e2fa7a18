"""The platform on AWS: CloudFormation stacks (`templates/`), and the tool that deploys, fills and removes them."""
