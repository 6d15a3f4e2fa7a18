#!/bin/bash
# Bootstrap action of the feature store's clusters: makes $HOME/feature-store on a node, as user hadoop.
#   app.config       settings of the Java driver for Keyspaces, credentials included; readable by its owner only
#   truststore.jks   the certificate authorities that the driver trusts
#   ca.pem, keyspaces.json   the same authorities, and where Keyspaces is, for the Python driver: it asks Secrets Manager
#                    for the credentials itself, or signs in as the node's role if no secret is named
#   code.zip, spark_jobs/*.py, jars/*.jar   the release's code, entry scripts and the Spark Cassandra Connector
# Runs on every node of an EMR 7 cluster (Amazon Linux 2023), and unchanged on the local EMR. Running it again makes it
# all anew. No secret is ever an argument of a program, as arguments are open to every user of a machine.
set -euo pipefail
umask 077

usage="Usage: emr_bootstrap_script.sh --release s3://BUCKET/releases/DIGEST --secret NAME --keyspaces-host HOST --keyspaces-port PORT --region REGION"
home="$HOME/feature-store"
# Made beside its place and moved there when it is whole: a step never finds half a node.
part="$HOME/.feature-store.part"

say() { printf '%s bootstrap: %s\n' "$(date -u +%H:%M:%S)" "$*"; }
fail() {
  printf 'bootstrap: %s\n' "$*" >&2
  exit 1
}

release='' secret='' host='' port='' region=''
while (($#)); do
  (($# > 1)) || fail "$1 has no value. $usage"
  case $1 in
    --release) release=${2%/} ;;
    --secret) secret=$2 ;;
    --keyspaces-host) host=$2 ;;
    --keyspaces-port) port=$2 ;;
    --region) region=$2 ;;
    *) fail "$1 is no argument of this script. $usage" ;;
  esac
  shift 2
done
[[ $release == s3://*/* && -n $secret && -n $host && $port =~ ^[0-9]+$ && -n $region ]] ||
  fail "an argument is missing, or is not what it should be. $usage"

for program in aws keytool python3 sha256sum; do
  command -v "$program" >/dev/null || fail "$program is not on this node's PATH; an EMR 7 release has it."
done

# A node's role can take some seconds to work everywhere: let the AWS CLI try again.
export AWS_RETRY_MODE=standard AWS_MAX_ATTEMPTS=6

say "fetching $release"
rm -rf "$part"
mkdir -p "$part"
aws s3 cp --recursive --only-show-errors --region "$region" "$release/" "$part/" ||
  fail "the release $release can't be fetched: is it published, and may this node's role read it?"
# SHA256SUMS is uploaded last: without it a release is not whole.
[[ -f $part/SHA256SUMS ]] || fail "the release $release has no SHA256SUMS: it is not there, or its upload was cut short."
(cd "$part" && sha256sum --check --quiet --strict SHA256SUMS) ||
  fail "the release $release is not what was published: files differ from its SHA256SUMS."

say "making the trust store"
TRUSTSTORE_PASSWORD=$(python3 -c 'import secrets; print(secrets.token_urlsafe(24))') ||
  fail "python3 made no password for the trust store."
export TRUSTSTORE_PASSWORD
count=0
for certificate in "$part"/certs/*.pem; do
  [[ -f $certificate ]] || fail "the release $release has no certificate in certs/."
  said=$(keytool -importcert -noprompt -storetype JKS -keystore "$part/truststore.jks" -storepass:env TRUSTSTORE_PASSWORD \
    -alias "$(basename "$certificate" .pem)" -file "$certificate" 2>&1) ||
    fail "keytool did not take ${certificate##*/}: $said"
  count=$((count + 1))
done
cat "$part"/certs/*.pem >"$part/ca.pem"
say "trusted certificate authorities: $count"

# Fills in "@NAME@" of the template as JSON strings, which HOCON takes as they are, whatever is in a password.
# Standard input: the secret's JSON. Python 3.9, as that is python3 on EMR 7.
render=$(
  cat <<'PYTHON'
import json, os, re, sys

template, target, contact_point, region, truststore = sys.argv[1:]
try:
    secret = json.load(sys.stdin)
    values = {"USERNAME": secret["username"], "PASSWORD": secret["password"]}
except (ValueError, KeyError, TypeError):
    sys.exit("the secret is not a JSON object with username and password")
values.update(
    CONTACT_POINT=contact_point,
    REGION=region,
    TRUSTSTORE_PATH=truststore,
    TRUSTSTORE_PASSWORD=os.environ["TRUSTSTORE_PASSWORD"],
)
try:
    with open(template, encoding="utf-8") as file:
        text = re.sub('"@([A-Z_]+)@"', lambda found: json.dumps(values[found[1]]), file.read())
except KeyError as unknown:
    sys.exit(f"the template asks for {unknown}, which this script does not know")
with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
    file.write(text)
PYTHON
)

say "writing app.config for $host:$port with the credentials of the secret $secret"
mv "$part/app.config" "$part/app.config.template"
aws secretsmanager get-secret-value --region "$region" --secret-id "$secret" --query SecretString --output text |
  python3 -c "$render" "$part/app.config.template" "$part/app.config" "$host:$port" "$region" "$home/truststore.jks" ||
  fail "app.config can't be written: is there a secret $secret in $region with username and password, that this node's role may read?"
unset TRUSTSTORE_PASSWORD

python3 -c '
import json, sys
names = ("host", "port", "region", "ca", "secret")
print(json.dumps(dict(zip(names, sys.argv[1:]))))
' "$host" "$port" "$region" "$home/ca.pem" "$secret" >"$part/keyspaces.json" || fail "keyspaces.json can't be written."

say "unpacking the jobs"
python3 -c '
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as code:
    code.extractall(sys.argv[2], [name for name in code.namelist() if name.startswith("spark_jobs/")])
' "$part/code.zip" "$part" || fail "code.zip of $release can't be unpacked."
[[ -d $part/spark_jobs ]] || fail "code.zip of $release holds no spark_jobs/."

rm -rf "$home"
mv "$part" "$home"
say "$home is ready"
