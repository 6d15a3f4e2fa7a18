"""Faults to plant in the templates, by the question of the review that has to find them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], None]
REMOVED = object()


def put(path: str, value: Any) -> Change:
    """Set, or with REMOVED take away, one value of a template: names and numbers of items, slashes between them."""

    def change(template: dict[str, Any]) -> None:
        *way, last = path.split("/")
        where: Any = template
        for step in way:
            where = where[int(step)] if isinstance(where, list) else where.setdefault(step, {})
        key: Any = int(last) if isinstance(where, list) else last
        if value is REMOVED:
            del where[key]
        else:
            where[key] = value

    return change


def add(name: str, kind: str, **properties: Any) -> Change:
    """Add a resource."""
    return put(f"Resources/{name}", {"Type": kind, "Properties": properties})


def grant(role: str, **statement: Any) -> Change:
    """Add a statement to the first policy of a role, or to a managed policy."""

    def change(template: dict[str, Any]) -> None:
        of = template["Resources"][role]["Properties"]
        document = of["Policies"][0]["PolicyDocument"] if "Policies" in of else of["PolicyDocument"]
        document["Statement"].append({"Effect": "Allow", **statement})

    return change


BUCKET = "Resources/Bucket/Properties"
DEFAULT_ENCRYPTION = f"{BUCKET}/BucketEncryption/ServerSideEncryptionConfiguration/0/ServerSideEncryptionByDefault"
TLS_ONLY = "Resources/BucketPolicy/Properties/PolicyDocument/Statement/0"
SECURITY = "Resources/SecurityConfiguration/Properties/SecurityConfiguration"
ENCRYPTION = f"{SECURITY}/EncryptionConfiguration"
CONTAINER = "Resources/TaskDefinition/Properties/ContainerDefinitions/0"
AT_REST = f"{ENCRYPTION}/AtRestEncryptionConfiguration"
METADATA = f"{SECURITY}/InstanceMetadataServiceConfiguration"
TABLE = "Resources/EnergyRecentFeaturesTable"
EMR_POLICIES = "arn:aws:iam::aws:policy/service-role"
OPEN = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}
SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "SourceSecurityGroupId": "sg-0"}
EVERYONE = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}

# Of each question: the template, the planted fault, and what the finding has to say.
FAULTS: dict[str, list[tuple[str, Change, str]]] = {
    "no_bucket_is_public": [
        ("storage", put(f"{BUCKET}/PublicAccessBlockConfiguration/BlockPublicPolicy", False), "BlockPublicPolicy off"),
        ("storage", put(f"{BUCKET}/PublicAccessBlockConfiguration", REMOVED), "RestrictPublicBuckets off"),
        ("storage", put(f"{BUCKET}/AccessControl", "PublicRead"), "an ACL"),
        ("storage", put(f"{BUCKET}/OwnershipControls", REMOVED), "ACLs on"),
    ],
    "buckets_take_tls_only": [
        ("storage", put("Resources/BucketPolicy", REMOVED), "without TLS"),
        ("storage", put(f"{TLS_ONLY}/Effect", "Allow"), "without TLS"),
        ("storage", put(f"{TLS_ONLY}/Resource", [{"Fn::GetAtt": ["Bucket", "Arn"]}]), "without TLS"),
        ("monitoring", add("Second", "AWS::S3::Bucket"), "Second can be used without TLS"),
    ],
    "everything_is_encrypted": [
        ("storage", put(f"{BUCKET}/BucketEncryption", REMOVED), "Bucket is not encrypted"),
        ("storage", put(f"{DEFAULT_ENCRYPTION}/SSEAlgorithm", "AES256"), "Bucket is not encrypted"),
        ("storage", put("Resources/Key/Properties/EnableKeyRotation", False), "Key is not rotated"),
        (
            "keyspaces",
            put(f"{TABLE}/Properties/EncryptionSpecification", {"EncryptionType": "AWS_OWNED_KMS_KEY"}),
            "EnergyRecentFeaturesTable is not encrypted",
        ),
        ("emr", put("Resources/KeyspacesSecret/Properties/KmsKeyId", REMOVED), "KeyspacesSecret has no KmsKeyId"),
        (
            "simulation",
            put("Resources/Repository/Properties/EncryptionConfiguration", REMOVED),
            "Repository is not encrypted",
        ),
        ("simulation", put("Resources/LogGroup/Properties/KmsKeyId", REMOVED), "LogGroup has no KmsKeyId"),
        ("airflow", put("Resources/Environment/Properties/KmsKey", REMOVED), "Environment has no KmsKey"),
        (
            "monitoring",
            put("Resources/AlarmTopic/Properties/KmsMasterKeyId", REMOVED),
            "AlarmTopic has no KmsMasterKeyId",
        ),
    ],
    "clusters_are_encrypted_and_ask_for_imds_v2": [
        ("emr", put(METADATA, REMOVED), "version 1 of the instance metadata"),
        ("emr", put(f"{METADATA}/MinimumInstanceMetadataServiceVersion", 1), "version 1 of the instance metadata"),
        ("emr", put(f"{ENCRYPTION}/EnableAtRestEncryption", False), "not encrypt at rest"),
        ("emr", put(f"{ENCRYPTION}/EnableInTransitEncryption", False), "not encrypt in transit"),
        ("emr", put(f"{AT_REST}/LocalDiskEncryptionConfiguration/EnableEbsEncryption", False), "not encrypt disks"),
        ("emr", put(f"{AT_REST}/S3EncryptionConfiguration/EncryptionMode", "SSE-S3"), "not encrypt on S3"),
    ],
    "what_is_safe_is_the_default": [
        ("emr", put("Parameters/InTransitEncryption/Default", "false"), "InTransitEncryption is false"),
        ("emr", put("Parameters/KeyspacesSignIn/Default", "Secret"), "KeyspacesSignIn is Secret"),
        ("airflow", put("Parameters/WebserverAccess/Default", "PUBLIC_ONLY"), "WebserverAccess is PUBLIC_ONLY"),
    ],
    "no_action_is_a_wildcard_on_any_resource": [
        ("emr", grant("NodeRole", Action="s3:*", Resource="*"), "NodeRole allows s3:* on anything"),
        (
            "airflow",
            grant("AirflowPolicy", Action=["s3:GetObject", "*"], Resource="arn:aws:s3:::x"),
            "AirflowPolicy allows * on",
        ),
        ("airflow", grant("AirflowPolicy", NotAction="iam:*", Resource="x"), "all but something"),
        (
            "network",
            put("Resources/EmrEndpoint/Properties/PolicyDocument/Statement/0/Action", "elasticmapreduce:*"),
            "EmrEndpoint allows",
        ),
    ],
    "any_resource_is_for_what_has_no_narrower_one": [
        (
            "emr",
            grant("ServiceRole", Action="ec2:TerminateInstances", Resource="*"),
            "ServiceRole allows ec2:TerminateInstances",
        ),
        (
            "airflow",
            put("Resources/AirflowPolicy/Properties/PolicyDocument/Statement/0/Condition", REMOVED),
            "RunJobFlow on anything",
        ),
    ],
    "no_policy_of_aws_is_attached": [
        (
            "emr",
            put(
                "Resources/NodeRole/Properties/ManagedPolicyArns", [f"{EMR_POLICIES}/AmazonElasticMapReduceforEC2Role"]
            ),
            "NodeRole has",
        ),
        (
            "emr",
            put(
                "Resources/ServiceRole/Properties/ManagedPolicyArns",
                [{"Fn::Sub": f"{EMR_POLICIES}/AmazonElasticMapReduceRole"}],
            ),
            "ServiceRole has",
        ),
    ],
    "roles_are_passed_to_one_service": [
        ("emr", grant("ServiceRole", Action="iam:PassRole", Resource={"Ref": "NodeRole"}), "to any service"),
        (
            "airflow",
            grant(
                "AirflowPolicy",
                Action=["iam:PassRole"],
                Resource="arn:aws:iam::1:role/*",
                Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
            ),
            "any role",
        ),
    ],
    "nobody_gains_rights": [
        (
            "airflow",
            grant("AirflowPolicy", Action="iam:PutRolePolicy", Resource="arn:aws:iam::1:role/x"),
            "iam:PutRolePolicy",
        ),
        ("emr", add("Person", "AWS::IAM::User"), "Person is a user"),
        ("emr", add("Key", "AWS::IAM::AccessKey", UserName="x"), "Key is a user or a key"),
    ],
    "nobody_else_is_trusted": [
        (
            "emr",
            put("Resources/ServiceRole/Properties/AssumeRolePolicyDocument/Statement/0/Condition", REMOVED),
            "for any account",
        ),
        (
            "emr",
            put(
                "Resources/NodeRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal",
                {"AWS": "arn:aws:iam::2:root"},
            ),
            "NodeRole can be taken by",
        ),
        (
            "storage",
            put("Resources/Key/Properties/KeyPolicy/Statement/0/Principal", {"AWS": "*"}),
            "Key trusts everyone",
        ),
        (
            "storage",
            put("Resources/BucketPolicy/Properties/PolicyDocument/Statement/1", EVERYONE),
            "BucketPolicy trusts everyone",
        ),
        (
            "network",
            put("Resources/KmsEndpoint/Properties/PolicyDocument/Statement/0/Condition", REMOVED),
            "KmsEndpoint is open to identities of any account",
        ),
        (
            "network",
            put("Resources/S3Endpoint/Properties/PolicyDocument/Statement/1/Resource", "*"),
            "S3Endpoint is open",
        ),
    ],
    "events_reach_their_topic": [
        (
            "monitoring",
            put("Resources/AlarmTopicPolicy/Properties/PolicyDocument/Statement/1/Condition", {"StringEquals": {}}),
            "AlarmTopicPolicy has a condition",
        ),
        (
            "storage",
            put("Resources/Key/Properties/KeyPolicy/Statement/3/Condition", {"StringEquals": {}}),
            "Key has a condition",
        ),
    ],
    "no_door_is_open": [
        (
            "network",
            put("Resources/EndpointSecurityGroup/Properties/SecurityGroupIngress/0", OPEN),
            "EndpointSecurityGroup lets addresses in: 0.0.0.0/0",
        ),
        (
            "network",
            put("Resources/NodeSecurityGroup/Properties/SecurityGroupIngress", [SSH]),
            "NodeSecurityGroup lets SSH in",
        ),
        (
            "network",
            put("Parameters/AirflowPageCidr/AllowedPattern", ".*"),
            "AirflowFromPeople lets addresses in",
        ),
        (
            "network",
            put("Parameters/AirflowPageCidr/Default", "10.0.0.0/8"),
            "AirflowFromPeople lets addresses in",
        ),
        ("network", put("Resources/NodesFromService/Properties/FromPort", 0), "NodesFromService lets SSH in"),
        ("emr", add("Node", "AWS::EC2::Instance", KeyName="mine"), "a key pair"),
    ],
    "groups_say_where_they_go": [
        ("network", put("Resources/ReaderSecurityGroup/Properties/SecurityGroupEgress", REMOVED), "no egress rule"),
        (
            "network",
            put("Resources/ReaderSecurityGroup/Properties/SecurityGroupEgress/0/CidrIp", "0.0.0.0/0"),
            "may go anywhere",
        ),
    ],
    "subnets_are_private": [
        ("network", put("Resources/FirstSubnet/Properties/MapPublicIpOnLaunch", True), "public addresses"),
        ("network", add("Gateway", "AWS::EC2::InternetGateway"), "Gateway is a way to the internet"),
    ],
    "connections_of_the_vpc_are_recorded": [
        ("network", put("Resources/FlowLog", REMOVED), "Vpc has no flow log"),
        ("network", put("Resources/FlowLog/Properties/TrafficType", "REJECT"), "Vpc has no flow log"),
    ],
    "no_secret_is_inline": [
        ("emr", put("Resources/KeyspacesSecret/Properties/SecretString", '{"password": "x"}'), "SecretString is given"),
        (
            "emr",
            put("Parameters/KeyspacesPassword", {"Type": "String", "NoEcho": True}),
            "KeyspacesPassword is a parameter for a secret",
        ),
        (
            "simulation",
            put(f"{CONTAINER}/Environment/0", {"Name": "KEYSPACES_PASSWORD", "Value": "x"}),
            "KEYSPACES_PASSWORD is given in plain text",
        ),
        ("simulation", put(f"{CONTAINER}/Command", ["--key", "AKIA" + "ABCDEFGHIJKLMNOP"]), "looks like a key"),
    ],
    "clusters_are_the_dags": [
        ("emr", add("Standing", "AWS::EMR::Cluster", Name="x"), "Standing is a cluster"),
        ("emr", put("Resources/NodeProfile/Properties/TerminationProtected", True), "protected from being ended"),
    ],
    "containers_are_confined": [
        ("simulation", put(f"{CONTAINER}/User", REMOVED), "runs as root"),
        ("simulation", put(f"{CONTAINER}/Privileged", True), "is privileged"),
        ("simulation", put(f"{CONTAINER}/LinuxParameters/Capabilities", REMOVED), "keeps capabilities"),
        ("simulation", put("Resources/Repository/Properties/ImageTagMutability", "MUTABLE"), "lets tags move"),
    ],
    "what_holds_data_outlives_its_stack": [
        ("storage", put("Resources/Bucket/DeletionPolicy", "Delete"), "Bucket is deleted"),
        ("storage", put(f"{BUCKET}/VersioningConfiguration", REMOVED), "Bucket has no versions"),
        ("storage", put("Resources/Key/UpdateReplacePolicy", REMOVED), "Key is deleted"),
        ("keyspaces", put(f"{TABLE}/DeletionPolicy", REMOVED), "EnergyRecentFeaturesTable is deleted"),
        ("keyspaces", put(f"{TABLE}/Properties/PointInTimeRecoveryEnabled", REMOVED), "can't be restored"),
    ],
    "policies_fit": [
        (
            "airflow",
            grant("AirflowPolicy", Action="s3:GetObject", Resource=[f"arn:aws:s3:::x/{n}/*" for n in range(150)]),
            "AirflowPolicy has",
        ),
        (
            "emr",
            grant("NodeRole", Action="s3:GetObject", Resource=[f"arn:aws:s3:::x/{n}/*" for n in range(500)]),
            "NodeRole has",
        ),
    ],
    "what_is_not_checked_has_a_reason": [
        ("network", put("Resources/FlowLogGroup/Metadata/checkov/skip/0/comment", ""), "does not say why"),
    ],
    "logs_end": [
        ("simulation", put("Resources/LogGroup/Properties/RetentionInDays", REMOVED), "LogGroup is kept for ever"),
    ],
    "every_name_has_the_prefix": [
        (
            "emr",
            put("Resources/NodeRole/Properties/RoleName", "EMR_EC2_DefaultRole"),
            "NodeRole is called EMR_EC2_DefaultRole",
        ),
        ("storage", put(f"{BUCKET}/BucketName", "my-lake"), "Bucket is called my-lake"),
        ("airflow", put("Resources/Environment/Properties/Name", "airflow"), "Environment is called airflow"),
    ],
    "parameters_are_bounded_and_described": [
        (
            "network",
            put("Parameters/FlowLogDays", {"Type": "Number", "Description": "Days of the flow log."}),
            "FlowLogDays takes anything",
        ),
        ("emr", put("Parameters/BucketName/AllowedPattern", REMOVED), "BucketName takes anything"),
        ("storage", put("Outputs/BucketName/Description", REMOVED), "BucketName is not described"),
    ],
}
