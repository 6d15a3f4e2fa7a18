"""What a security review asks of the templates: each question is a function from a template to what it finds.

A finding is one sentence that begins with the resource's name. No finding is a pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.unit.infra.cloudformation.templates import as_list, resources, statements, text_of, values

Template = dict[str, Any]
Question = Callable[[Template], Iterator[str]]
ANYWHERE = ("0.0.0.0/0", "::/0")
# The one policy in which every action on "*" is right: a key's own, where "*" is the key, for its account.
KEY = "AWS::KMS::Key"
SECRET_NAMES = re.compile(r"password|secret(string|_?access_?key)?$|token|private_?key|api_?key|credential", re.I)
SECRET_VALUES = re.compile(r"AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|-----BEGIN|aws_secret_access_key", re.I)
BROAD_POLICIES = re.compile(
    r"AdministratorAccess|FullAccess|PowerUser|AmazonElasticMapReduce\w*Role|AmazonEMRServicePolicy|IAMFullAccess"
)


def no_bucket_is_public(template: Template) -> Iterator[str]:
    for name, of in resources(template, "AWS::S3::Bucket"):
        block = of.get("PublicAccessBlockConfiguration", {})
        wanted = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
        yield from (f"{name} has {each} off" for each in wanted if block.get(each) is not True)
        if "AccessControl" in of:
            yield f"{name} has an ACL"
        if as_list(of.get("OwnershipControls", {}).get("Rules", [])) != [{"ObjectOwnership": "BucketOwnerEnforced"}]:
            yield f"{name} has ACLs on"


def buckets_take_tls_only(template: Template) -> Iterator[str]:
    policies = list(resources(template, "AWS::S3::BucketPolicy"))
    for name, _ in resources(template, "AWS::S3::Bucket"):
        of_it = [of for _, of in policies if of["Bucket"] == {"Ref": name}]
        everything = [{"Fn::GetAtt": [name, "Arn"]}, {"Fn::Sub": f"${{{name}.Arn}}/*"}]
        if not any(
            each["Effect"] == "Deny"
            and each["Principal"] == "*"
            and each["Action"] == "s3:*"
            and each["Resource"] == everything
            and each.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            for of in of_it
            for each in of["PolicyDocument"]["Statement"]
        ):
            yield f"{name} can be used without TLS"


def everything_is_encrypted(template: Template) -> Iterator[str]:
    """With the deployment's own key wherever the service takes one."""
    own = {
        "AWS::SecretsManager::Secret": "KmsKeyId",  # pragma: allowlist secret
        "AWS::SNS::Topic": "KmsMasterKeyId",
        "AWS::MWAA::Environment": "KmsKey",
        "AWS::Logs::LogGroup": "KmsKeyId",
    }
    for name, resource in template["Resources"].items():
        of, kind = resource.get("Properties", {}), resource["Type"]
        # A group of the stack before the key: see its suppression of checkov, which says why.
        if kind in own and not of.get(own[kind]) and name != "FlowLogGroup":
            yield f"{name} has no {own[kind]}"
        if kind == "AWS::S3::Bucket":
            rules = of.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [])
            by = [rule.get("ServerSideEncryptionByDefault", {}) for rule in rules]
            if not by or any(each.get("SSEAlgorithm") != "aws:kms" or not each.get("KMSMasterKeyID") for each in by):
                yield f"{name} is not encrypted with the key"
        if kind == "AWS::Cassandra::Table":
            said = of.get("EncryptionSpecification", {})
            if said.get("EncryptionType") != "CUSTOMER_MANAGED_KMS_KEY" or not said.get("KmsKeyIdentifier"):
                yield f"{name} is not encrypted with the key"
        if kind == "AWS::ECR::Repository" and of.get("EncryptionConfiguration", {}).get("EncryptionType") != "KMS":
            yield f"{name} is not encrypted with the key"
        if kind == KEY and of.get("EnableKeyRotation") is not True:
            yield f"{name} is not rotated"


def clusters_are_encrypted_and_ask_for_imds_v2(template: Template) -> Iterator[str]:
    for name, of in resources(template, "AWS::EMR::SecurityConfiguration"):
        said = of["SecurityConfiguration"]
        encryption = said.get("EncryptionConfiguration", {})
        rest = encryption.get("AtRestEncryptionConfiguration", {})
        if encryption.get("EnableAtRestEncryption") is not True:
            yield f"{name} does not encrypt at rest"
        if rest.get("S3EncryptionConfiguration", {}).get("EncryptionMode") != "SSE-KMS":
            yield f"{name} does not encrypt on S3 with the key"
        disks = rest.get("LocalDiskEncryptionConfiguration", {})
        if (disks.get("EncryptionKeyProviderType"), disks.get("EnableEbsEncryption")) != ("AwsKms", True):
            yield f"{name} does not encrypt disks with the key"
        if True not in values(encryption.get("EnableInTransitEncryption")):
            yield f"{name} does not encrypt in transit"
        metadata = said.get("InstanceMetadataServiceConfiguration", {})
        if metadata.get("MinimumInstanceMetadataServiceVersion") != 2 or metadata.get("HttpPutResponseHopLimit") != 1:
            yield f"{name} takes version 1 of the instance metadata, or gives it to more than the instance"


def what_is_safe_is_the_default(template: Template) -> Iterator[str]:
    """Of each choice that a parameter leaves, the safe one stands there for who does not choose."""
    safe = {
        "InTransitEncryption": "true",
        "WebserverAccess": "PRIVATE_ONLY",
        "KeyspacesSignIn": "Role",
        "PointInTimeRecovery": "true",
    }
    for name, of in template.get("Parameters", {}).items():
        if name in safe and of.get("Default") != safe[name]:
            yield f"{name} is {of.get('Default')} by default, not {safe[name]}"


def no_action_is_a_wildcard_on_any_resource(template: Template) -> Iterator[str]:
    for name, holder, statement in statements(template):
        if statement["Effect"] != "Allow" or holder in {"trust", KEY}:
            continue
        if "NotAction" in statement or "NotResource" in statement:
            yield f"{name} allows all but something"
            continue
        actions = [each for each in as_list(statement["Action"]) if each == "*" or each.endswith(":*")]
        anything = "*" in as_list(statement["Resource"])
        if "*" in actions or (actions and anything):
            yield f"{name} allows {', '.join(actions)} on {'anything' if anything else 'some resources'}"


def any_resource_is_for_what_has_no_narrower_one(template: Template) -> Iterator[str]:
    """Actions on "*" only describe or list, or AWS knows no resource of theirs; or a condition narrows them."""
    harmless = re.compile(
        r"(ec2:Describe\w+|logs:DescribeLogGroups|elasticmapreduce:ListClusters|ecr:GetAuthorizationToken"
        r"|s3:GetAccountPublicAccessBlock)"
    )
    for name, holder, statement in statements(template):
        if statement["Effect"] != "Allow" or holder != "identity" or "*" not in as_list(statement.get("Resource")):
            continue
        wide = [each for each in as_list(statement["Action"]) if not harmless.fullmatch(each)]
        if wide and "Condition" not in statement:
            yield f"{name} allows {', '.join(wide)} on anything"


def no_policy_of_aws_is_attached(template: Template) -> Iterator[str]:
    """They are made for everyone, and grow."""
    for name, of in resources(template, "AWS::IAM::Role", "AWS::IAM::User", "AWS::IAM::Group"):
        for arn in as_list(of.get("ManagedPolicyArns", [])):
            said = text_of(arn)
            if ":aws:policy/" in said or BROAD_POLICIES.search(said):
                yield f"{name} has {said}"


def roles_are_passed_to_one_service(template: Template) -> Iterator[str]:
    for name, _, statement in statements(template):
        if statement["Effect"] != "Allow" or "iam:PassRole" not in as_list(statement.get("Action", [])):
            continue
        if "iam:PassedToService" not in text_of(statement.get("Condition", {})):
            yield f"{name} may pass roles to any service"
        if any("*" in text_of(each) for each in as_list(statement["Resource"])):
            yield f"{name} may pass any role"


def nobody_gains_rights(template: Template) -> Iterator[str]:
    """No identity may change identities; there are no users and no access keys."""
    for name, holder, statement in statements(template):
        rights = [each for each in as_list(statement.get("Action", [])) if each.split(":")[0] in {"iam", "sts"}]
        if holder == "identity" and statement["Effect"] == "Allow" and set(rights) - {"iam:PassRole"}:
            yield f"{name} may do {', '.join(rights)}"
    yield from (
        f"{name} is a user or a key of one" for name, _ in resources(template, "AWS::IAM::User", "AWS::IAM::AccessKey")
    )


def nobody_else_is_trusted(template: Template) -> Iterator[str]:
    """A role is taken by a service; a service that acts for others says for whom; nothing of ours trusts everyone."""
    for name, holder, statement in statements(template):
        principal, condition = statement.get("Principal"), statement.get("Condition", {})
        if statement["Effect"] != "Allow" or holder == "identity":
            continue
        if holder == "trust":
            services = as_list(principal.get("Service", [])) if isinstance(principal, dict) else []
            if not services or set(principal) != {"Service"}:
                yield f"{name} can be taken by {text_of(principal)}"
            elif services != ["ec2.amazonaws.com"] and "aws:SourceAccount" not in text_of(condition):
                yield f"{name} can be taken by {', '.join(services)} for any account"
        elif principal == "*" and holder == "AWS::EC2::VPCEndpoint":
            # Packages and layers of AWS's own are read unsigned, from these buckets alone.
            foreign = "aws:PrincipalAccount" not in text_of(condition)
            if foreign and not all("s3:::" in text_of(each) for each in as_list(statement["Resource"])):
                yield f"{name} is open to identities of any account"
        elif principal == "*" or (isinstance(principal, dict) and principal.get("AWS") == "*"):
            yield f"{name} trusts everyone"


def events_reach_their_topic(template: Template) -> Iterator[str]:
    """EventBridge gives a topic's policy, and its key's, nothing that a condition could compare: it is refused then.

    docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    for name, _, statement in statements(template):
        principal = statement.get("Principal")
        services = as_list(principal.get("Service", [])) if isinstance(principal, dict) else []
        if "events.amazonaws.com" in services and "Condition" in statement:
            yield f"{name} has a condition for EventBridge"


def no_door_is_open(template: Template) -> Iterator[str]:
    """Nothing comes in from outside the security groups, and nobody by SSH or by a key pair."""
    for name, of in resources(template, "AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress"):
        rules = [of] if "GroupId" in of else as_list(of.get("SecurityGroupIngress", []))
        for rule in rules:
            addresses = rule.get("CidrIp", rule.get("CidrIpv6"))
            if addresses is not None and not _private_and_chosen(template, addresses):
                yield f"{name} lets addresses in: {text_of(addresses)}"
            first, last = rule.get("FromPort", 0), rule.get("ToPort", 65535)
            within = rule["IpProtocol"] == "-1" and rule.get("SourceSecurityGroupId") == of.get("GroupId")
            if first <= 22 <= last and not within:
                yield f"{name} lets SSH in"
    if "KeyName" in text_of(template["Resources"]) or "Ec2KeyName" in text_of(template["Resources"]):
        yield "a key pair is named"


def _private_and_chosen(template: Template, addresses: Any) -> bool:
    """Whether someone has to choose them, and can choose none that the internet has."""
    of = template.get("Parameters", {}).get(addresses.get("Ref")) if isinstance(addresses, dict) else None
    public = ("0.0.0.0/0", "1.2.3.4/32", "8.0.0.0/8", "172.32.0.0/16", "192.0.0.0/8", "0.0.0.0/1")
    return bool(of) and of["Default"] == "" and not any(re.fullmatch(of["AllowedPattern"], each) for each in public)


def groups_say_where_they_go(template: Template) -> Iterator[str]:
    """A group without egress rules may reach everything; and to anywhere only HTTPS, which S3's endpoint needs."""
    for name, of in resources(template, "AWS::EC2::SecurityGroup"):
        rules = as_list(of.get("SecurityGroupEgress", []))
        if not rules:
            yield f"{name} has no egress rule"
        for rule in rules:
            if rule.get("CidrIp") in ANYWHERE and (rule.get("FromPort"), rule.get("ToPort")) != (443, 443):
                yield f"{name} may go anywhere"


def subnets_are_private(template: Template) -> Iterator[str]:
    ways_out = ("AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::EIP", "AWS::EC2::Route")
    yield from (f"{name} is a way to the internet" for name, _ in resources(template, *ways_out))
    for name, of in resources(template, "AWS::EC2::Subnet"):
        if of.get("MapPublicIpOnLaunch") is not False:
            yield f"{name} gives public addresses"


def connections_of_the_vpc_are_recorded(template: Template) -> Iterator[str]:
    logged = [
        of.get("ResourceId") for _, of in resources(template, "AWS::EC2::FlowLog") if of.get("TrafficType") == "ALL"
    ]
    yield from (
        f"{name} has no flow log" for name, _ in resources(template, "AWS::EC2::VPC") if {"Ref": name} not in logged
    )


def no_secret_is_inline(template: Template) -> Iterator[str]:
    """Neither a value that is one, nor a parameter that would be: parameters are kept and shown."""
    for name, of in template.get("Parameters", {}).items():
        if SECRET_NAMES.search(name) and not name.endswith(("Arn", "Name")) and name != "KeyspacesSignIn":
            yield f"{name} is a parameter for a secret"
        if SECRET_VALUES.search(text_of(of.get("Default", ""))):
            yield f"{name} has a secret for a default"
    for name, of in resources(template):
        yield from (f"{name}: {found}" for found in _secrets(of))


def _secrets(value: Any, at: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) >= {"Name", "Value"} and SECRET_NAMES.search(str(value["Name"])):
            yield f"{value['Name']} is given in plain text"
        for key, each in value.items():
            if key in {"SecretString", "MasterUserPassword"}:
                yield f"{key} is given in the template"
            yield from _secrets(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _secrets(each, at)
    elif SECRET_VALUES.search(str(value)):
        yield f"{at} looks like a key"


def clusters_are_the_dags(template: Template) -> Iterator[str]:
    """A cluster of a template would run, and cost, all the time; and nobody's termination protection keeps one."""
    yield from (f"{name} is a cluster" for name, _ in resources(template, "AWS::EMR::Cluster"))
    if re.search(r'TerminationProtect\w+": (true|"true")', text_of(template)):
        yield "something is protected from being ended"


def containers_are_confined(template: Template) -> Iterator[str]:
    for name, of in resources(template, "AWS::ECS::TaskDefinition"):
        for container in of["ContainerDefinitions"]:
            if container.get("User", "root") in {"root", "0"}:
                yield f"{name} runs as root"
            if container.get("ReadonlyRootFilesystem") is not True or container.get("Privileged") is not False:
                yield f"{name} may write to its image, or is privileged"
            if "ALL" not in container.get("LinuxParameters", {}).get("Capabilities", {}).get("Drop", []):
                yield f"{name} keeps capabilities"
    for name, of in resources(template, "AWS::ECR::Repository"):
        if of.get("ImageTagMutability") != "IMMUTABLE" or not of.get("ImageScanningConfiguration", {}).get(
            "ScanOnPush"
        ):
            yield f"{name} lets tags move, or is not scanned"


def what_holds_data_outlives_its_stack(template: Template) -> Iterator[str]:
    kinds = ("AWS::S3::Bucket", KEY, "AWS::Cassandra::Table", "AWS::Cassandra::Keyspace")
    for name, resource in template["Resources"].items():
        keeps = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        if resource["Type"] in kinds and keeps != ("RetainExceptOnCreate", "Retain"):
            yield f"{name} is deleted with its stack"
        if resource["Type"] == "AWS::Cassandra::Table" and "PointInTimeRecoveryEnabled" not in resource["Properties"]:
            yield f"{name} can't be restored"
        versions = {"VersioningConfiguration": {"Status": "Enabled"}}
        if resource["Type"] == "AWS::S3::Bucket" and not versions.items() <= resource["Properties"].items():
            yield f"{name} has no versions"


def policies_fit(template: Template) -> Iterator[str]:
    """Within IAM's quotas, of characters that are no blanks: of a managed policy, and of all of a role's own."""
    for name, of in resources(template, "AWS::IAM::ManagedPolicy"):
        if (size := _size(of["PolicyDocument"])) > 6_144:
            yield f"{name} has {size} characters"
    for name, of in resources(template, "AWS::IAM::Role"):
        if (size := sum(_size(each["PolicyDocument"]) for each in as_list(of.get("Policies", [])))) > 10_240:
            yield f"{name} has {size} characters"


def _size(document: Any) -> int:
    """As long as it may become: with a prefix of 24 characters, in a region and a partition of long names."""
    lengths = {"AWS::Partition": 10, "AWS::Region": 14, "AWS::AccountId": 12, "Prefix": 24, "BucketName": 52}
    said = re.sub(r"\$\{([\w:.]+)\}", lambda name: "x" * lengths.get(name[1], 48), text_of(document))
    said = re.sub(r'\{"(Fn::Sub|Ref)": ("[^"]*")\}', r"\2", said)
    return len(re.sub(r"\s", "", said))


def what_is_not_checked_has_a_reason(template: Template) -> Iterator[str]:
    """A check of checkov's that is switched off, for one resource, says why."""
    for name, resource in template["Resources"].items():
        for skipped in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
            if len(skipped.get("comment", "")) < 30:
                yield f"{name} is not checked by {skipped.get('id')}, and does not say why"


def logs_end(template: Template) -> Iterator[str]:
    yield from (
        f"{name} is kept for ever"
        for name, of in resources(template, "AWS::Logs::LogGroup")
        if "RetentionInDays" not in of
    )


def every_name_has_the_prefix(template: Template) -> Iterator[str]:
    """Whatever has a name of its own, so that two deployments are apart and a policy can name what is ours."""
    names = re.compile(r"\w*Name|Family")
    foreign = {"ServiceName", "LogGroupName", "ClusterName", "AttributeName", "PolicyName", "MetricName", "TableName"}
    own = {"AWS::Logs::LogGroup": "LogGroupName", "AWS::ECS::Cluster": "ClusterName"}
    for name, resource in template["Resources"].items():
        for key, value in resource.get("Properties", {}).items():
            is_own = key == "Name" or (names.fullmatch(key) and key not in foreign) or own.get(resource["Type"]) == key
            if is_own and not re.search(r"\$\{Prefix\}|\"Ref\": \"(Prefix|Keyspace|FlowLogGroup)\"", text_of(value)):
                yield f"{name} is called {text_of(value)}"


def parameters_are_bounded_and_described(template: Template) -> Iterator[str]:
    for name, of in template["Parameters"].items():
        kind = of["Type"]
        bounded = (
            "AllowedValues" in of
            or kind.startswith(("AWS::EC2::", "List<AWS::EC2::"))
            or (kind == "String" and "AllowedPattern" in of)
            or (kind == "Number" and {"MinValue", "MaxValue"} <= set(of))
            or kind == "CommaDelimitedList"
        )
        if not bounded:
            yield f"{name} takes anything"
        if len(of.get("Description", "")) < 10:
            yield f"{name} is not described"
    for name, of in template["Outputs"].items():
        if len(of.get("Description", "")) < 10:
            yield f"{name} is not described"


QUESTIONS: dict[str, Question] = {
    question.__name__: question
    for question in (
        no_bucket_is_public,
        buckets_take_tls_only,
        everything_is_encrypted,
        clusters_are_encrypted_and_ask_for_imds_v2,
        what_is_safe_is_the_default,
        no_action_is_a_wildcard_on_any_resource,
        any_resource_is_for_what_has_no_narrower_one,
        no_policy_of_aws_is_attached,
        roles_are_passed_to_one_service,
        nobody_gains_rights,
        nobody_else_is_trusted,
        events_reach_their_topic,
        no_door_is_open,
        groups_say_where_they_go,
        subnets_are_private,
        connections_of_the_vpc_are_recorded,
        no_secret_is_inline,
        clusters_are_the_dags,
        containers_are_confined,
        what_holds_data_outlives_its_stack,
        policies_fit,
        what_is_not_checked_has_a_reason,
        logs_end,
        every_name_has_the_prefix,
        parameters_are_bounded_and_described,
    )
}
