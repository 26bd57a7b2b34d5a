#!/bin/bash
# The cluster's certificates: one CA for everything; EC keys, so that this takes about a second.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"; mkdir -p "$PKI"; cd "$PKI"
key() { openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }
key ca; openssl req -x509 -new -key ca.key -days 3650 -subj /CN=kubernetes-ca -out ca.crt 2>/dev/null
cert() { # name subject usage [subjectAltName]
  key $1
  openssl req -new -key $1.key -subj "$2" 2>/dev/null | openssl x509 -req -CA ca.crt -CAkey ca.key \
    -CAcreateserial -days 3650 -out $1.crt -extfile <(
      echo "extendedKeyUsage=$3"; echo "keyUsage=critical,digitalSignature"
      [ -z "${4:-}" ] || echo "subjectAltName=$4") 2>/dev/null
}
conf() { # name of a cert -> name.conf
cat > $1.conf <<C
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "$API", certificate-authority: "$PKI/ca.crt"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {client-certificate: "$PKI/$1.crt", client-key: "$PKI/$1.key"}}]
C
}
cert apiserver /CN=kube-apiserver serverAuth "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$CPIP,IP:$SVCIP"
cert apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
cert admin /O=system:masters/CN=admin clientAuth; conf admin
cert kcm /CN=system:kube-controller-manager clientAuth; conf kcm
cert scheduler /CN=system:kube-scheduler clientAuth; conf scheduler
cert proxy /CN=system:kube-proxy clientAuth; conf proxy
key front; openssl req -x509 -new -key front.key -days 3650 -subj /CN=front-proxy-ca -out front.crt 2>/dev/null
for n in $NODES; do
  cert $n /O=system:nodes/CN=system:node:$n clientAuth; conf $n
  cert $n-serving /O=system:nodes/CN=system:node:$n serverAuth "DNS:$n,IP:$(nodeip $n)"
done
openssl genrsa -out sa.key 2048 2>/dev/null; openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
