# Settings that every script shares; sourced, never run.
# Scripts are in $SCRIPTS; what they fetch and build lives under $K8S, what runs under $RUN.
SCRIPTS=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
REPO=$(cd "$SCRIPTS/../.." && pwd)
K8S=${CALICO_K8S_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/calico-k8s}; mkdir -p "$K8S"
BIN=$K8S/bin; RUN=$K8S/run; PKI=$RUN/pki; LOG=$RUN/log
CALICO=$RUN/calico             # Calico's programs as the cluster runs them; "cluster swap" replaces them one by one
FAB=kfab                       # namespace that holds the switch between machines
CP=kcp; CPIP=10.9.0.1          # control plane's namespace and address
NODES=${NODES:-"kn1 kn2"}; nodeip() { echo 10.9.0.1${1#kn}; }
PODCIDR=10.244.0.0/16; SVCCIDR=10.96.0.0/16; SVCIP=10.96.0.1
API=https://$CPIP:6443
AS=64512
say() { echo "k8s: $*"; }
die() { echo "k8s: $*" >&2; exit 1; }
incp() { ip netns exec $CP "$@"; }          # fine for control plane programs: no cgroups needed there
K() { incp "$BIN/kubectl" --kubeconfig "$PKI/admin.conf" "$@"; }
# Host pid of a machine's PID 1: the only child of the unshare that "cluster up" started.
nodepid() { pgrep -P "$(cat "$RUN/$1.pid")"; }
# Never a Go program with "nsenter -p -F": without a fork it stays outside the PID namespace and cannot make threads.
onnode() { local n=$1; shift; nsenter -t "$(nodepid $n)" -m -n -p -u -C -- env PATH=$CALICO:$BIN:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
# Go 1.24 or newer: the machine's own, or the one that comes as a module, which any older go can fetch.
find_go() {
  command -v go >/dev/null || die "needs Go: apt-get install golang-go"
  local minor dir; minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  [ "${minor:-0}" -lt 21 ] || return 0   # from 1.21 on go fetches what a go.mod asks for
  if [ ! -x "$K8S/go/bin/go" ]; then
    dir=$(go mod download -json "golang.org/toolchain@v0.0.1-go1.25.5.linux-$(go env GOARCH)" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    rm -rf "$K8S/go"; cp -r "$dir" "$K8S/go"; chmod -R u+w "$K8S/go"
    # a module's files come without the right to run them
    chmod +x "$K8S"/go/bin/* "$K8S"/go/pkg/tool/*/*
  fi
  export PATH=$K8S/go/bin:$PATH
}
