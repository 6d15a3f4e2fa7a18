#!/bin/bash
# Bootstrap action of the feature store's clusters: makes $HOME/feature-store on a node, as user hadoop.
#   app.config       settings of the Java driver for Keyspaces, credentials included; readable by its owner only
#   truststore.jks   the certificate authorities that the driver trusts; neither is there if no secret is named
#   ca.pem, keyspaces.json   the same authorities, and where Keyspaces is, for the Python driver: it asks Secrets Manager
#                    for the credentials itself, or signs in as the node's role if no secret is named
#   code.zip, spark_jobs/*.py, jars/*.jar   the release's code, entry scripts and the Spark Cassandra Connector
#   python/          the Python of the steps, with the packages that they import, from the release's wheels alone; also
#                    for user yarn, as whom Spark's executors run Python
# Runs on every node of an EMR 7 cluster (Amazon Linux 2023), and unchanged on the local EMR. Running it again makes it
# all anew, but for the packages: they are kept in $FEATURE_STORE_PACKAGES, which a machine that is many nodes in turn
# sets. No secret is ever an argument of a program, as arguments are open to every user of a machine.
set -euo pipefail
umask 077

usage="Usage: emr_bootstrap_script.sh --release s3://BUCKET/releases/DIGEST --secret NAME|- --keyspaces-host HOST --keyspaces-port PORT --region REGION"
home="$HOME/feature-store"
# Made beside its place and moved there when it is whole: a step never finds half a node.
part="$HOME/.feature-store.part"
packages="${FEATURE_STORE_PACKAGES:-$HOME/feature-store-packages}"
# Beside python3, which is 3.9, EMR has had it since 7.1.
python=python3.11

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
    # None: EMR may lose an argument that is empty.
    --secret) secret=${2#-} ;;
    --keyspaces-host) host=$2 ;;
    --keyspaces-port) port=$2 ;;
    --region) region=$2 ;;
    *) fail "$1 is no argument of this script. $usage" ;;
  esac
  shift 2
done
[[ $release == s3://*/* && -n $host && $port =~ ^[0-9]+$ && -n $region ]] ||
  fail "an argument is missing, or is not what it should be. $usage"

for program in aws keytool "$python" sha256sum; do
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
TRUSTSTORE_PASSWORD=$("$python" -c 'import secrets; print(secrets.token_urlsafe(24))') ||
  fail "$python made no password for the trust store."
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
# Standard input: the secret's JSON.
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

if [[ -n $secret ]]; then
  say "writing app.config for $host:$port with the credentials of the secret $secret"
  mv "$part/app.config" "$part/app.config.template"
  aws secretsmanager get-secret-value --region "$region" --secret-id "$secret" --query SecretString --output text |
    "$python" -c "$render" "$part/app.config.template" "$part/app.config" "$host:$port" "$region" "$home/truststore.jks" ||
    fail "app.config can't be written: is there a secret $secret in $region with username and password, that this node's role may read?"
else
  say "no secret is named: the jobs sign in as this node's role, and the Java driver has no app.config"
  rm "$part/app.config" "$part/truststore.jks"
fi
unset TRUSTSTORE_PASSWORD

"$python" -c '
import json, sys
names = ("host", "port", "region", "ca", "secret")
print(json.dumps(dict(zip(names, sys.argv[1:]))))
' "$host" "$port" "$region" "$home/ca.pem" "$secret" >"$part/keyspaces.json" || fail "keyspaces.json can't be written."

say "unpacking the jobs"
"$python" -c '
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as code:
    code.extractall(sys.argv[2], [name for name in code.namelist() if name.startswith("spark_jobs/")])
' "$part/code.zip" "$part" || fail "code.zip of $release can't be unpacked."
[[ -d $part/spark_jobs ]] || fail "code.zip of $release holds no spark_jobs/."

# In a process of its own: what it makes is for every user of the node, and what a failure leaves is removed.
make_environment() (
  umask 022
  making="$environment.$$"
  trap 'rm -rf "$making"' EXIT
  mkdir -p "$making/wheels"
  aws s3 cp --recursive --only-show-errors --region "$region" "$wheels/" "$making/wheels/" ||
    fail "the packages of $release can't be fetched from $wheels: are they published, and may this node's role read them?"
  (cd "$making/wheels" && sha256sum --check --quiet --strict "$sums") ||
    fail "the packages in $wheels are not those of $release: files are missing, or differ from its ${sums##*/}."
  installer=$(sed -n 's/^[0-9a-f]*  \(uv-.*\.whl\)$/\1/p' "$sums")
  "$python" -m zipfile -e "$making/wheels/$installer" "$making/uv" || fail "$wheels holds no uv that can be unpacked."
  uv="$making/uv/${installer%%-py3-*}.data/scripts/uv"
  chmod +x "$uv" # unpacked, it has lost that
  "$python" -m venv --without-pip "$making/python" || fail "$python can't make an environment."
  "$uv" pip install --quiet --no-config --python "$making/python/bin/python" \
    --offline --no-index --find-links "$making/wheels" --require-hashes --requirement "$part/requirements.lock" \
    --cache-dir "$making/cache" --compile-bytecode ||
    fail "the packages of requirements.lock can't be installed from $wheels: it lacks one, or one is not for this node."
  # Two bootstraps of one machine may have made the same.
  mv -T "$making/python" "$environment" 2>/dev/null || [[ -d $environment ]] || fail "$environment can't be made."
)

sums="$part/wheels.$(uname -m).sha256"
[[ -f $sums ]] ||
  fail "the release $release has no packages for $(uname -m): choose instances of another architecture, or publish it with them."
wheels="${release%/*}/wheels/$(sha256sum "$sums" | cut -c1-20)"
interpreter=$(readlink -f "$(command -v "$python")")
environment="$packages/$({ cat "$sums" "$part/requirements.lock" && printf '%s\n' "$interpreter" && "$python" -VV; } | sha256sum | cut -c1-20)"
if [[ -d $environment ]]; then
  say "the Python packages are there: $environment"
else
  say "installing the Python packages from $wheels"
  make_environment
fi
ln -s "$environment" "$part/python"
# Nobody but hadoop sees what is in these folders; who knows a name in them may go there, as YARN's user has to.
chmod 711 "$part"
chmod o+x "$HOME"

rm -rf "$home"
mv "$part" "$home"
say "$home is ready"
