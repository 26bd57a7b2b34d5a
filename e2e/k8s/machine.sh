#!/bin/bash
# machine.sh NAME: becomes "machine" NAME. Run by "cluster up".
# A machine is: a network namespace (made by "cluster up") and mount, UTS, cgroup and
# PID namespaces made here. Killing its PID 1 ends everything in it.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/env.sh"
n=$1; stage=${2:-outer}; N=$RUN/$n; S=$N/service
CTRLS="cpu cpuacct cpuset memory devices freezer blkio pids systemd"
if [ $stage = outer ]; then
  mkdir -p $N $S
  # A cgroup of its own in every v1 hierarchy, below the one we are in, and then
  # a cgroup namespace: the machine sees that cgroup as the root. So kubelet and
  # runc need no special cgroupRoot, two kubelets' /kubepods do not collide, and
  # cpu and memory have equal paths (kubelet otherwise complains "cpu and memory
  # cgroup hierarchy not unified").
  for c in $CTRLS; do
    p=$(awk -F: -v c=$c '$2==c || $2=="name="c {print $3}' /proc/self/cgroup)
    d=/sys/fs/cgroup/$c${p%/}/$n; mkdir -p $d
    [ $c != cpuset ] || { cat $d/../cpuset.cpus > $d/cpuset.cpus; cat $d/../cpuset.mems > $d/cpuset.mems; }
    echo $$ > $d/cgroup.procs; echo $d >> $N/cgroups
  done
  # nsenter, not "ip netns exec": the latter mounts a new /sys over
  # /sys/fs/cgroup and nothing cgroup-related works after that.
  exec nsenter --net=/run/netns/$n unshare --mount --uts --cgroup --pid --fork --kill-child \
    --propagation private --mount-proc "$0" $n inner
fi
# ---- PID 1 of the machine
hostname $n
mount -t sysfs sysfs /sys                      # /sys/class/net of this netns
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
for c in $CTRLS; do
  mkdir /sys/fs/cgroup/$c
  o=$c; [ $c != systemd ] || o=none,name=systemd
  mount -t cgroup -o $o cgroup /sys/fs/cgroup/$c
done
mkdir -p /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf
# Private /etc /opt /usr /var: the Debian packages below, writes go to $N/up.
for d in etc opt usr var; do
  mkdir -p $N/up/$d $N/work/$d $K8S/sysroot/$d
  mount -t overlay -o lowerdir=$K8S/sysroot/$d:/$d,upperdir=$N/up/$d,workdir=$N/work/$d overlay /$d
done
# Real directories where overlay-on-overlay would fail (containerd's snapshots).
for d in var/lib/containerd var/lib/kubelet; do mkdir -p $N/$d /$d; mount --bind $N/$d /$d; done
mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/lock /run/netns /run/containerd
# kubelet sets these sysctls for the whole kernel; let it write to plain files
# that already hold the values it wants.
mkdir -p $N/sys
fake() { echo $2 > $N/sys/${1//\//.}; mount --bind $N/sys/${1//\//.} /proc/sys/$1; }
fake vm/overcommit_memory 1; fake vm/panic_on_oom 0; fake kernel/panic 10; fake kernel/panic_on_oops 1
fake kernel/keys/root_maxkeys 1000000; fake kernel/keys/root_maxbytes 25000000
# kube-proxy and kubelet expect to be able to share mounts with containers
# (mountPropagation: Bidirectional), so make the tree shared inside.
mount --make-rshared /
echo 1 > /proc/sys/net/ipv4/ip_forward
echo "$(nodeip $n) $n" >> /etc/hosts
mkdir -p /etc/cni/net.d /opt/cni/bin /etc/containerd
cp -n /usr/lib/cni/* /opt/cni/bin/
PAUSE=$(cat $K8S/images/pause.ref)
cat > /etc/containerd/config.toml <<C
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE"
  # no CAP_SYS_RESOURCE here: runc cannot lower oom_score_adj to the -998 of a
  # sandbox; this clamps it to containerd's own
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
C
: > /etc/containerd/resolv.conf
cat > /var/lib/kubelet/config.yaml <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/$n-serving.crt
tlsPrivateKeyFile: $PKI/$n-serving.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0                       # default -999 needs CAP_SYS_RESOURCE
# there is no registry to pull from again: never collect images, not even where the disk is full
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
resolvConf: /etc/containerd/resolv.conf
clusterDomain: cluster.local
clusterDNS: [$CPIP]
volumePluginDir: /var/lib/kubelet/volume-plugins
syncFrequency: 10s
nodeStatusUpdateFrequency: 5s
maxPods: 60
registryPullQPS: 0
eventRecordQPS: 0
C
export PATH=$CALICO:$BIN:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ldconfig 2>/dev/null || :

# What an init system would do: starts a program again whenever it ends, unless $S/NAME.stop stands.
# $S/NAME.pid is its process id within the machine ("cluster restart" and the tests kill by it).
service() {
  local name=$1; shift
  ( while :; do
      if [ -e $S/$name.stop ]; then sleep 0.1; continue; fi
      "$@" >> $LOG/$n-$name.log 2>&1 &
      echo $! > $S/$name.pid
      wait $! || :
      rm -f $S/$name.pid
      [ -e $S/$name.stop ] || sleep 0.5
    done ) &
}

service containerd containerd
for i in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.1; done
for t in $K8S/images/*.tar; do ctr -n k8s.io images import "$t"; done > $LOG/$n-images.log 2>&1
touch $N/containerd-up
service kubelet kubelet --config=/var/lib/kubelet/config.yaml --kubeconfig=$PKI/$n.conf --hostname-override=$n \
  --node-ip=$(nodeip $n) --root-dir=/var/lib/kubelet --v=2
# conntrack sizes are the kernel's, not the namespace's: 0 leaves them alone.
if [ "${PROXY:-nftables}" != none ]; then
  cat > /var/lib/kubelet/proxy.yaml <<C
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${PROXY:-nftables}
hostnameOverride: $n
clusterCIDR: $PODCIDR
clientConnection: {kubeconfig: $PKI/proxy.conf}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
oomScoreAdj: 0
C
  service proxy kube-proxy --config /var/lib/kubelet/proxy.yaml --v=1
fi
# calico-node as a host process. It waits for "cluster up", which has the credentials it needs.
touch $S/calico-node.stop
service calico-node bash -c 'set -a; . $0; exec calico-node' $N/calico-node.env
# Stay as PID 1 and reap: every containerd-shim ends up as our child.
trap 'exit 0' TERM INT
while :; do wait -n 2>/dev/null || :; sleep 1; done
